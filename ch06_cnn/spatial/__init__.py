"""Spatial transformers; read in this order.

transformer  affine grid and bilinear sampler by hand, forward and backward
networks     a CNN, a spatial transformer network (SPN) and a recurrent SPN
spatial      the program: digits that are rotated, moved, among distractors, or read one after the other
film         animated GIFs of the attended regions
visualise    figures of a run
"""
