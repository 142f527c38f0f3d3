"""The public names of Apportion. `apportion/__init__.py` reads the imports below and makes them when they are asked for."""
# ruff: noqa: I001  (the order is that of docs/api.md)

# ---- the parts of a strategy
from credit import SIGNALS as SIGNALS
from credit import Credit as Credit
from credit import Declaration as Declaration
from credit import Rollout as Rollout
from credit import Signal as Signal
from credit import Strategy as Strategy
from credit import baseline as baseline
from credit import critic as critic
from credit import declaration_of as declaration_of
from credit import declares as declares
from credit import ratio as ratio
from credit import spread as spread
from credit import weight as weight
from credit.diagnostics import diagnose as diagnose

# ---- strategies by name
from configs.compose import ConfigError as ConfigError
from configs.compose import compose_strategy as compose_strategy
from configs.compose import named_strategy as named_strategy

# ---- trainers
from trainers.grpo import CreditGRPOTrainer as CreditGRPOTrainer
from trainers.lhts import LHTS as LHTS
from trainers.lhts import LHTSTrainer as LHTSTrainer
from trainers.sft import CreditSFTTrainer as CreditSFTTrainer

# ---- runs
from apportion.verbs import run_command as run_command
from trainers.run.records import Recorder as Recorder
from trainers.run.recording import CreditRecords as CreditRecords
from trainers.run.tell.online_audit import OnlineAudit as OnlineAudit

# ---- rewards
from rewards.accuracy import exact_match as exact_match
from rewards.accuracy import numeric_match as numeric_match
from rewards.base import SpanReward as SpanReward
from rewards.base import TextReward as TextReward
from rewards.compose import clip as clip
from rewards.compose import cosine_by_length as cosine_by_length
from rewards.compose import gate as gate
from rewards.compose import scale as scale
from rewards.compose import weighted_sum as weighted_sum
from rewards.compose import whole_turn as whole_turn
from rewards.format import regex_format as regex_format
from rewards.guard import guarded as guarded
from rewards.load import load_reward as load_reward
from rewards.maths import math_equal as math_equal
from rewards.text.spans import Span as Span
from rewards.text.spans import span_total as span_total
from rewards.tags import tag_structure as tag_structure
from rewards.tags import think_answer as think_answer
from rewards.text.completions import completion_text as completion_text

# ---- data and models
from tasks.base import Task as Task
from tasks.chain import chain as chain
from trainers.model.embedded import embedded as embedded
from trainers.model.policy import Policy as Policy
from trainers.model.pretrained import hf as hf

# ---- sampling at a sequence temperature
from sampling.ancestral import TokenTemperature as TokenTemperature
from sampling.causal_lm import CausalLM as CausalLM
from sampling.draws import Draws as Draws
from sampling.mh import PowerSampling as PowerSampling
from sampling.mh import SuffixMH as SuffixMH
from sampling.rejection import Rejection as Rejection
from sampling.smc import SMC as SMC
from sampling.smc import SNIS as SNIS
from sampling.tempering import alpha_of as alpha_of
