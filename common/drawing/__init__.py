"""Figures, in one style for all chapters.

plots          curves, image grids, heat maps, bars
text_plots     figures with text in them
anomaly_plots  anomaly detection: AUROC, most and least anomalous images, histograms of scores
graphs         diagrams of computation graphs, as DOT text or drawn
layout         positions of the nodes of a diagram
"""
