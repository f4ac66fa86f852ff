"""What reads texts and pictures inside their fields: trained from scratch, or pretrained and brought along.

In: settings, or the state of a saved model. Out: towers; a text tower gives a gist of each text, a picture tower a map.
"""
