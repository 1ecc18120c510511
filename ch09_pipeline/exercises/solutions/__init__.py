"""Solutions of the exercises: `python -m ch09_pipeline.exercises 3 --solution`.

ex1_due_jobs        one pass in the order of the stages
ex2_cache_key       a format from which the inputs can be read back
ex3_split           a checksum of each image
ex4_atomic_write    another name, then one renaming
ex5_stage           results of this run only
ex6_quarantine      the length first, then every image
ex7_drift           shares instead of counts
"""
