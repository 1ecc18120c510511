"""Solutions of the exercises: `python -m ch07_dqn.exercises 3 --solution`.

ex1_td_target            no Q term if the next state is terminal
ex2_double_q_learning    gather the target network's value of the online network's action
ex3_epsilon_greedy       the greedy action also gets its share of epsilon
ex4_value_iteration      apply the Bellman equation until nothing changes
ex5_n_step_return        stop at the end of the episode
ex6_prioritised_replay   rare transitions get the largest weight, 1
ex7_advantages           from the last step to the first
ex8_policy_gradient      A (p - y) + h p (log p + H)
ex9_clipped_objective    A, or 0 outside the interval on the side that A favours
"""
