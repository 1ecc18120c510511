"""Figures: one look for the whole suite.

plots       curves, image grids, heat maps, bars
text_plots  figures with text in them
graphs      diagrams of computation graphs, as DOT text or drawn
layout      where the nodes of a diagram go
"""
