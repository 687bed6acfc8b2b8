"""CleanRL's manner, a whole PPO in one file: `examples/cleanrl_ppo.py`, from a clone.

python -m experiments.clients.cleanrl
"""

from examples import cleanrl_ppo
from experiments.clients.learning import TABLE, show

show("cleanrl-style PPO", cleanrl_ppo.main(None, 0, 16_384, num_envs=4, table=TABLE))
