"""Act with exported agents, without torch.

balancing  chapter 7's agents for CartPole
"""
