"""Agents for any gymnasium environment with discrete actions, in reading order.

vector_environment  parallel environments with the true next observation of every step
evaluation          mean return over whole episodes
reinforce           policy gradient with whole episodes, with and without a baseline
advantages          generalised advantage estimation
actor_critic        advantage actor-critic (A2C)
ppo                 proximal policy optimisation; every implementation detail is a switch
dqn                 deep Q-network: replay, target network, double Q-learning
rendering           pictures of an episode, as text or as a GIF
learning_bands      the program that compares agents over several seeds
peers               the program that compares PPO and DQN with Stable-Baselines3
"""
