"""Checks of the exercises of chapter 7: reference, cases, hint, and typical mistakes with their explanations.

ex1_td_target             find the bug: a target that bootstraps at terminal states
ex2_double_q_learning     the target of double Q-learning
ex3_epsilon_greedy        the probabilities of an epsilon-greedy policy
ex4_value_iteration       Q-values from a model of the environment
ex5_n_step_return         n-step returns, also across the end of an episode
ex6_prioritised_replay    sampling probabilities and importance-sampling weights
ex7_advantages            generalised advantage estimation
ex8_policy_gradient       the gradient of the actor's loss with respect to the logits
ex9_clipped_objective     the derivative of PPO's clipped objective
"""

from ch07_dqn.exercises.checks.ex1_td_target import TD_TARGET
from ch07_dqn.exercises.checks.ex2_double_q_learning import DOUBLE_Q_LEARNING
from ch07_dqn.exercises.checks.ex3_epsilon_greedy import EPSILON_GREEDY
from ch07_dqn.exercises.checks.ex4_value_iteration import VALUE_ITERATION
from ch07_dqn.exercises.checks.ex5_n_step_return import N_STEP_RETURN
from ch07_dqn.exercises.checks.ex6_prioritised_replay import PRIORITISED_REPLAY
from ch07_dqn.exercises.checks.ex7_advantages import ADVANTAGES
from ch07_dqn.exercises.checks.ex8_policy_gradient import POLICY_GRADIENT
from ch07_dqn.exercises.checks.ex9_clipped_objective import CLIPPED_OBJECTIVE

EXERCISES = (
    TD_TARGET,
    DOUBLE_Q_LEARNING,
    EPSILON_GREEDY,
    VALUE_ITERATION,
    N_STEP_RETURN,
    PRIORITISED_REPLAY,
    ADVANTAGES,
    POLICY_GRADIENT,
    CLIPPED_OBJECTIVE,
)
"""Exercises of the chapter in order."""
