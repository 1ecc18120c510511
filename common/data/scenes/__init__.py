"""Generated scenes of coloured shapes; read in this order.

painting   colours and shapes, shared with the scenes that have captions
scene_set  the types: scenes with boxes and masks, and a set with its splits
drawing    draw scenes of several objects that occlude each other, on a textured ground
loading    the splits, the same on every machine
"""
