"""The stages: each a plain command that reads what `--in` names and writes below `--out`, and nothing else."""
