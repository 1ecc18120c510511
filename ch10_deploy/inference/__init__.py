"""Inference with exported models, without torch; read in this order.

models              load ONNX graphs and verify them against their cards
cards               the fields of a card, as pydantic models
trials              one request to each model before the server is ready
image_decoding      decode JSON lists and PNG files to pixels
picture_files       decode PNG and JPEG files of any size
object_detection    chapter 6's detector, with non-maximum suppression
segmentation        chapter 6's segmentation network
style               chapter 6's feed-forward network for a style
drawing             chapter 8's diffusion model
recommendation      chapter 3's recommender
generation          chapter 5's language model
question_answering  chapter 5's memory network
planning            chapter 7's planner
agents              chapter 7's agents for CartPole
"""
