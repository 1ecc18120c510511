"""Export of trained networks to ONNX; read in this order.

export           the program: export, compare with the original, write a card
graphs           the graph of each network, from the client's input to the client's output
picture_graphs   the same for the networks that take whole pictures
denoising_graph  the same for the diffusion model
policy_graphs    the same for the agents that balance a pole
model_card       model cards for readers, in the layout of the Hugging Face Hub
sources          the newest finished run of each program, or a short training run
"""
