"""Checks of the exercises of chapter 9: reference, cases, hint, and typical mistakes with their explanations.

ex1_due_jobs        the stages that a change makes due
ex2_cache_key       find the bug: the key under which results are cached
ex3_split           find the bug: a validation split that new data change
ex4_atomic_write    write a file so that a crash leaves no half of it
ex5_stage           find the bug: a stage that keeps old results
ex6_quarantine      why a batch of images is quarantined
ex7_drift           find the bug: drift between the classes of two batches
"""

from ch09_pipeline.exercises.checks.ex1_due_jobs import DUE_JOBS
from ch09_pipeline.exercises.checks.ex2_cache_key import CACHE_KEY
from ch09_pipeline.exercises.checks.ex3_split import SPLIT
from ch09_pipeline.exercises.checks.ex4_atomic_write import ATOMIC_WRITE
from ch09_pipeline.exercises.checks.ex5_stage import STAGE
from ch09_pipeline.exercises.checks.ex6_quarantine import QUARANTINE
from ch09_pipeline.exercises.checks.ex7_drift import DRIFT

EXERCISES = (DUE_JOBS, CACHE_KEY, SPLIT, ATOMIC_WRITE, STAGE, QUARANTINE, DRIFT)
"""Exercises of the chapter in order."""
