"""Exported models at work, without torch; read in this order.

models          ONNX graphs and the cards beside them, checked before they count
cards           the fields of a card, as pydantic models
trials          one inference per model before the server is ready
image_decoding  JSON lists or PNG files to pixels
recommendation  chapter 3's recommender
generation      chapter 5's language model
planning        chapter 7's planner
"""
