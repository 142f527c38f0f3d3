"""Models from a folder or the hub: what is loaded, and what is said when it cannot be."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from configs.compose import compose_config
from support.models_saved import save_model
from tasks.base import Task
from tasks.chain import chain
from trainers.model.embedded import byte_tokenizer, closed_tokenizer
from trainers.model.pretrained import LORA, adapter_config, hf
from trainers.run.grpo import register_schema

REPOSITORY = Path(__file__).resolve().parents[3]
CHAT = [{"role": "user", "content": "2+2?"}]


def no_reward(completions, **_):
    return [0.0] * len(completions)


def asking(*prompts):
    return Task("mine", [{"prompt": prompt} for prompt in prompts], [], [no_reward], [1.0])


@pytest.fixture
def folder(tmp_path):
    """A saved model with a byte tokenizer that has a chat template."""
    return save_model(tmp_path / "model", byte_tokenizer())


@pytest.fixture
def bare(tmp_path):
    """The same without a chat template."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    return save_model(tmp_path / "bare", tokenizer)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_local_folder_gives_model_and_tokenizer_ready_for_generation(folder):
    policy = hf(asking("2+2?", CHAT), name=str(folder))
    assert type(policy.model).__name__ == "LlamaForCausalLM" and policy.peft_config is None
    assert policy.tokenizer.padding_side == "left" and policy.tokenizer.pad_token_id is not None
    assert policy.tokenizer.decode(policy.tokenizer("Zürich")["input_ids"]) == "Zürich"


@pytest.mark.parametrize(("name", "dtype"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_dtype_is_what_was_asked_for(folder, name, dtype):
    assert hf(asking("a"), name=str(folder), dtype=name).model.dtype == dtype


def test_the_attention_implementation_is_passed_on(folder):
    assert hf(asking("a"), name=str(folder), attn_implementation="eager").model.config._attn_implementation == "eager"


def test_a_missing_pad_token_becomes_the_end_of_text(folder):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = hf(asking("a"), name=str(folder)).tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_a_chat_template_can_be_brought_along(bare, tmp_path):
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    tokenizer = hf(asking(CHAT), name=str(bare), chat_template=str(tmp_path / "mine.jinja")).tokenizer
    assert tokenizer.apply_chat_template(CHAT, tokenize=False) == "[2+2?]"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "bfloat"}, "Did you mean `bfloat16`"),
        ({"peft": "lorra"}, "there is `lora`"),
        ({"peft": {"rr": 4}}, "model.peft.rr is no field"),
        ({"peft": {"lora_alfa": 4}}, "Did you mean `lora_alpha`"),
        ({"peft": 3}, "model.peft must be"),
        ({"chat_template": "nowhere.jinja"}, "model.chat_template: no file"),
        ({"attn_implementation": "flash_attention_2"}, "needs a package"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_remedy(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        hf(asking("a"), name=str(folder), **settings)


def test_chat_prompts_need_a_chat_template(bare):
    with pytest.raises(ValueError, match=r"no chat template.*model.chat_template=.*task.chat=false"):
        hf(asking(CHAT), name=str(bare))


def test_a_prompt_that_the_vocabulary_does_not_hold_is_named(tmp_path):
    folder = save_model(tmp_path / "closed", closed_tokenizer("ab"))
    with pytest.raises(ValueError, match="cannot encode the prompt 'abc'"):
        hf(asking("ab", "abc"), name=str(folder))


def test_a_prompt_without_tokens_is_refused(folder):
    with pytest.raises(ValueError, match="has no tokens"):
        hf(asking("a", ""), name=str(folder))


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (["config.json"], "no config.json"),
        (["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"], r"no tokenizer.*save_pretrained\("),
        (["model.safetensors"], "cannot be loaded"),
    ],
)
def test_a_folder_that_is_not_whole_says_what_is_missing(folder, lost, message):
    for file in lost:
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=message):
        hf(asking("a"), name=str(folder))


def test_a_path_that_is_not_there_names_the_nearest(folder):
    with pytest.raises(ValueError, match=r"no such folder.*Did you mean `.*model`"):
        hf(asking("a"), name=str(folder) + "l")


def test_the_run_folder_of_a_model_points_to_the_model_in_it(folder):
    with pytest.raises(ValueError, match=r"no config.json.*Did you mean .*model\?"):
        hf(asking("a"), name=str(folder.parent))


def test_an_adapter_that_does_not_name_its_base_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="base_model_name_or_path"):
        hf(asking("a"), name=str(tmp_path))


def test_a_file_is_not_a_model(folder):
    with pytest.raises(ValueError, match="is a file"):
        hf(asking("a"), name=str(folder / "config.json"))


def test_a_hub_name_that_cannot_be_had_offline_says_what_to_do(offline):
    with pytest.raises(ValueError, match=r"neither a folder here nor a model.*hf auth login.*local folder"):
        hf(asking("a"), name="no-such-organisation/no-such-model")


def test_a_model_that_is_no_language_model_is_refused(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ValueError, match="no causal language model"):
        hf(asking("a"), name=str(folder))


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(folder, tmp_path):
    small = save_model(tmp_path / "small", closed_tokenizer("ab"))
    for file in ("config.json", "model.safetensors", "generation_config.json"):
        (folder / file).write_bytes((small / file).read_bytes())
    with pytest.raises(ValueError, match="257 tokens, the model only 3 embeddings"):
        hf(asking("a"), name=str(folder))


@pytest.fixture
def own_code(folder, tmp_path, monkeypatch):
    """A model folder with code of its own, which leaves a mark when it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    mark = tmp_path / "ran"
    (folder / "configuration_mine.py").write_text(
        f"import pathlib\nfrom transformers import LlamaConfig\npathlib.Path({str(mark)!r}).touch()\n"
        "class MineConfig(LlamaConfig):\n    model_type = 'mine'\n"
    )
    (folder / "modeling_mine.py").write_text(
        "from transformers import LlamaForCausalLM\nfrom .configuration_mine import MineConfig\n"
        "class MineForCausalLM(LlamaForCausalLM):\n    config_class = MineConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "configuration_mine.MineConfig", "AutoModelForCausalLM": "modeling_mine.MineForCausalLM"}
    config |= {"model_type": "mine", "auto_map": classes, "architectures": ["MineForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, mark


def test_code_from_a_model_folder_does_not_run_unless_asked(own_code):
    folder, mark = own_code
    with pytest.raises(ValueError, match=r"brings its own code.*model.trust_remote_code=true"):
        hf(asking("a"), name=str(folder))
    assert not mark.exists()


def test_code_from_a_model_folder_runs_when_asked(own_code):
    folder, mark = own_code
    assert type(hf(asking("a"), name=str(folder), trust_remote_code=True).model).__name__ == "MineForCausalLM"
    assert mark.exists()


def test_lora_in_its_three_spellings():
    word, fields = adapter_config("lora"), adapter_config(OmegaConf.create({"r": 4, "target_modules": ["q_proj"]}))
    assert (word.r, word.target_modules, word.task_type) == (16, "all-linear", "CAUSAL_LM")
    assert (fields.r, fields.target_modules) == (4, {"q_proj"})
    assert adapter_config(word) is word
    assert adapter_config(None) is None


@pytest.fixture(scope="module")
def schema():
    register_schema()


def test_the_lora_of_the_yaml_is_the_lora_of_the_word(schema):
    config = compose_config("train_grpo", ["model=hf", "model.name=x", "model/peft=lora"])
    assert dict(config.model.peft) == LORA and LORA["target_modules"] == "all-linear"


@pytest.mark.parametrize(
    ("overrides", "r"),
    [(["model.peft=lora"], 16), (["model/peft=lora", "model.peft.r=4"], 4), (["model.peft={r: 8}"], 8)],
)
def test_the_command_line_takes_lora_as_a_word_a_group_or_fields(schema, overrides, r):
    config = compose_config("train_grpo", ["model=hf", "model.name=x", *overrides])
    assert adapter_config(config.model.peft).r == r


@pytest.mark.parametrize("peft", ["lora", pytest.param("null", marks=pytest.mark.slow)])
def test_a_folder_and_a_file_train_by_the_default_command(folder, server, tmp_path, peft):
    rows = [{"question": f"What is {n}+{n}?", "answer": str(2 * n)} for n in range(20)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["model=hf", f"model.name={folder}", f"model.peft={peft}"]
    command += ["task=jsonl", f"task.path={tmp_path / 'sums.jsonl'}", "task.prompt_column=question", "task.chat=true"]
    command += ["trainer.max_steps=1", "trainer.per_device_train_batch_size=4", "trainer.num_generations=2"]
    command += ["trainer.max_completion_length=4", f"run_dir={tmp_path / 'run'}", "record.every=0"]
    server.train(*command)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["tokens"] > 0
    kept = {file.name for file in (tmp_path / "run" / "model").iterdir()}
    assert ("adapter_model.safetensors" if peft == "lora" else "model.safetensors") in kept


def test_the_tags_of_the_chain_task_survive_an_ordinary_tokenizer(folder):
    task = chain(n_train=10, n_eval=5)
    tokenizer = hf(task, name=str(folder)).tokenizer
    text = task.demonstrations(1, 0)[0]["completion"]
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
