"""Backbone networks (towers) of the text and image encoders: trained from scratch, or pretrained.

In: settings, or the state of a saved model. Out: towers; text towers return pooled states, image towers feature maps.
"""
