"""Mazes; read in this order.

maze         a maze, its generation and its shortest paths
batch        environments of many mazes, as one table of next states
environment  one maze as a gymnasium environment
"""
