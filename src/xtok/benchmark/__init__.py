"""Whole benchmarks: tokenizers, data sets, teachers and the simulation brought together, and measured.

The questions are in `evaluate`, episodes and rollouts in `sim`; here is what opens, fits and combines. The command
line parses arguments, calls these functions, prints and writes.

- `tokenizer`: a tokenizer beside others and baselines on a data set
- `semantics`: what its codes know of sub-tasks, tasks and a teacher's features
- `pool`: sets of other robots, for a FAST fitted on them alone
- `replay`: the tokenizers that an expert's commands are sent through, fitted for each arm
- `closed_loop`: a policy, or those replays, in the simulation
"""
