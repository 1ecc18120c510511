"""Exercises of chapter 7 that check themselves: `python -m ch07_dqn.exercises`.

ex1_td_target            find the bug: a target that bootstraps at terminal states
ex2_double_q_learning    the target of double Q-learning
ex3_epsilon_greedy       the probabilities of an epsilon-greedy policy
ex4_value_iteration      Q-values from a model of the environment
ex5_n_step_return        n-step returns, also across the end of an episode
ex6_prioritised_replay   sampling probabilities and importance-sampling weights
ex7_advantages           generalised advantage estimation
ex8_policy_gradient      the gradient of the actor's loss with respect to the logits
ex9_clipped_objective    the derivative of PPO's clipped objective
checks                   a file per exercise: reference, cases, hint, typical mistakes
solutions                a file per exercise: the solution with an explanation
__main__                 the command
"""
