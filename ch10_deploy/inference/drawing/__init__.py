"""Generate images with exported models, without torch.

denoising  chapter 8's diffusion model
"""
