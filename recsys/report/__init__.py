"""The report: one HTML file that a shop's people open to see what the recommender knows and does.

`content` is what there is to tell, as plain data; `page` makes HTML of it and `document` JSON, both pure functions.
"""
