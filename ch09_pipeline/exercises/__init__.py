"""Exercises of chapter 9 that check themselves: `python -m ch09_pipeline.exercises`.

ex1_due_jobs        the stages that a change makes due
ex2_cache_key       find the bug: the key under which results are cached
ex3_split           find the bug: a validation split that new data change
ex4_atomic_write    write a file so that a crash leaves no half of it
ex5_stage           find the bug: a stage that keeps old results
ex6_quarantine      why a batch of images is quarantined
ex7_drift           find the bug: drift between the classes of two batches
checks              a file per exercise: reference, cases, hint, typical mistakes
solutions           a file per exercise: the solution with an explanation
__main__            the command
"""
