"""Reads the settings of a run.

flag_spec.py     FlagSpec and flag(): help, default, choices and old names of one flag
train_config.py  TrainConfig: every setting of a run, from flags or from config.json
stored_config.py config_from_json(), make_config(): a TrainConfig of stored values
run_files.py     names of the files of a run directory
checks.py        the checks of a TrainConfig
flags.py         defines the absl flags and makes a TrainConfig of them
head_config.py   HeadConfig: the settings of the head
recipes.py       RECIPES: named defaults for the flags
regime_specs.py  RegimeSpec: what --regimes says of one regime
regimes.py       Regime, make_regimes(), plan_steps()
class_balance.py ClassBalance: weights of the classes, the figure that chooses; rank()
"""
