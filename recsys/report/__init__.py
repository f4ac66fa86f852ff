"""The report: one self-contained HTML file that shows the state and the quality of the recommender.

`content` defines its data as plain dataclasses; `html` renders them as HTML and as JSON with pure functions.
"""
