"""Trained networks as ONNX graphs; read in this order.

export   the program: export, compare with the original, write a card
graphs   each network as the graph that the server needs
sources  the newest finished run of each program, or a short training
"""
