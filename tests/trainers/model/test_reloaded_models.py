"""Every model folder that a verb writes, loaded as any user of transformers and peft would, is the model that was trained."""

import itertools
import json
import shutil

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Trainer

from support.models_saved import nll, plain_nlls, save_model, train_step, write_rows
from tasks.base import Task
from trainers.model.embedded import byte_tokenizer, embedded
from trainers.model.pretrained import hf
from trainers.run import grpo as run
from trainers.run import likelihood as run_sft

FIRST = [f"{verb}-{kind}" for verb in ("sft", "lhts", "grpo") for kind in ("full", "lora")]
STEPS = [*FIRST, "sft-merged", "lhts-merged", "grpo-merged"]
pytestmark = pytest.mark.slow  # .ci/run has all but the chains


@pytest.fixture(autouse=True)
def _schemas(tmp_path, monkeypatch):
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "cache"))
    run.register_schema()
    run_sft.register_schema()


@pytest.fixture
def seen(monkeypatch):
    """What the model in memory says of the texts at each moment at which a folder was written, by folder."""
    found, saved = {}, Trainer.save_model

    def save(self, output_dir=None, _internal_call=False):
        saved(self, output_dir, _internal_call)
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        found[str(output_dir or self.args.output_dir)] = nll(model, self.processing_class)
        model.train(was_training)

    monkeypatch.setattr(Trainer, "save_model", save)
    return found


@pytest.fixture
def start(tmp_path):
    return save_model(tmp_path / "start", byte_tokenizer())


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path)


def assert_folders_are_what_was_trained(seen, run):
    folders = [run / "model", *sorted((run / "checkpoints").glob("checkpoint-*"))]
    assert len(folders) >= 3
    for folder in folders:
        for found in plain_nlls(folder):
            assert found == pytest.approx(seen[str(folder)], abs=2e-4), folder


def ours(folder) -> float:
    """Likelihood of a folder as our own verbs load it."""
    task = Task("any", [{"prompt": "a"}], [], [lambda completions, **_: [0.0] * len(completions)], [1.0])
    policy = hf(task, name=str(folder))
    return nll(policy.model, policy.tokenizer)


QUICK = [("lhts-lora", "grpo-full", "sft-merged")]
PAIRS = [pair for pair in itertools.product(FIRST, STEPS) if not ("full" in pair[0] and "merged" in pair[1])]
LONGER = [
    ("sft-lora", "grpo-lora", "sft-lora"),
    ("sft-lora", "sft-lora", "grpo-full"),
    ("lhts-lora", "grpo-lora", "grpo-merged"),
    ("sft-full", "lhts-lora", "grpo-lora"),
]
SLOW = [chain for chain in (*PAIRS, *LONGER) if chain not in QUICK]


@pytest.mark.parametrize("chain", [*QUICK, *(pytest.param(c, marks=pytest.mark.slow) for c in SLOW)], ids="_".join)
def test_every_folder_of_a_chain_reloads_to_the_model_that_was_trained(chain, start, rows, seen, tmp_path):
    name, likelihoods = start, [nll(AutoModelForCausalLM.from_pretrained(start), byte_tokenizer())]
    for number, step in enumerate(chain):
        name = train_step(step, name, rows, tmp_path / f"run{number}")
        assert_folders_are_what_was_trained(seen, tmp_path / f"run{number}")
        assert ours(name) == pytest.approx(seen[str(name)], abs=2e-4)
        likelihoods.append(seen[str(name)])
    moved = [abs(after - before) for before, after in itertools.pairwise(likelihoods)]
    assert min(moved) > 1e-3, likelihoods  # each step trained something


STILL = ["trainer.learning_rate=1e-9"]


@pytest.mark.slow
def test_each_step_starts_from_the_model_of_the_one_before(start, rows, seen, tmp_path):
    trained = train_step("sft-lora", start, rows, tmp_path / "sft")
    begun = {nll(AutoModelForCausalLM.from_pretrained(start), byte_tokenizer()): "the base"}
    for step in ("grpo-lora", "grpo-full", "grpo-merged", "lhts-lora", "sft-full"):
        folder = train_step(step, trained, rows, tmp_path / step, *STILL)
        for found in plain_nlls(folder):
            assert found == pytest.approx(seen[str(trained)], abs=2e-4), step
            assert abs(found - next(iter(begun))) > 0.01


@pytest.mark.parametrize("step", ["grpo-lora", "grpo-full", "grpo-merged"])
def test_the_reference_of_a_kl_term_is_the_model_that_the_run_started_from(step, start, rows, tmp_path):
    trained = train_step("sft-lora", start, rows, tmp_path / "sft")
    train_step(step, trained, rows, tmp_path / "grpo", "trainer.beta=0.1", "trainer.max_steps=3")
    log = [json.loads(line) for line in (tmp_path / "grpo/metrics.jsonl").read_text().splitlines()]
    kl = [row["kl"] for row in log if row.get("kl") is not None]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[-1] > 1e-3


def test_the_frozen_model_of_lhts_is_the_adapter_as_it_was_given(start, rows, monkeypatch, tmp_path):
    from trainers.lhts import LHTSTrainer

    trained = train_step("sft-lora", start, rows, tmp_path / "sft")
    frozen, saved = [], LHTSTrainer.save_model

    def save(self, *args, **kwargs):
        with self.scoring() as scorer:
            frozen.append(nll(scorer, self.processing_class))
        saved(self, *args, **kwargs)

    monkeypatch.setattr(LHTSTrainer, "save_model", save)
    folder = train_step("lhts-full", trained, rows, tmp_path / "lhts")
    assert frozen == pytest.approx([plain_nlls(trained)[0]] * len(frozen), abs=2e-4)
    assert abs(plain_nlls(folder)[0] - frozen[0]) > 5e-3
    assert [path.parent for path in folder.rglob("adapter_config.json")] == [folder]  # without the frozen copy


@pytest.mark.parametrize(
    "step", ["grpo-full", *(pytest.param(s, marks=pytest.mark.slow) for s in ("grpo-lora", "lhts-full"))]
)
def test_a_run_on_an_adapter_resumes_to_the_weights_of_one_that_was_not_cut(step, start, rows, tmp_path):
    from safetensors.torch import load_file

    trained = train_step("sft-lora", start, rows, tmp_path / "sft")
    more = ["trainer.beta=0.1"] if step.startswith("grpo") else []
    whole = train_step(step, trained, rows, tmp_path / "whole", *more)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for gone in ("model", "checkpoints/checkpoint-2"):
        shutil.rmtree(tmp_path / "cut" / gone)
    (tmp_path / "cut/summary.json").unlink()
    cut = train_step(step, trained, rows, tmp_path / "cut", *more, "resume=true")
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, cut))
    assert one.keys() == other.keys() and all((one[key] == other[key]).all() for key in one)
    assert plain_nlls(cut) == pytest.approx(plain_nlls(whole), abs=1e-6)
    assert not list((tmp_path / "whole").rglob("ref/adapter_config.json"))  # the frozen copy is no model of the run


def test_copies_and_critics_are_left_out_together_and_one_by_one():
    from peft import LoraConfig, get_peft_model

    from support.tiny import tiny_model
    from trainers.model.adapters import without_adapter

    lora, written = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"), []
    model = get_peft_model(tiny_model(), lora)
    for name in ("ref", "critic"):
        model.add_adapter(name, lora)

    class Model(type(model)):
        def save_pretrained(self, folder, selected_adapters=None):
            written.append(selected_adapters)

    model.__class__ = Model
    with without_adapter(model, "ref"):
        with without_adapter(model, "critic"):
            model.save_pretrained("")
        model.save_pretrained("")
    model.save_pretrained("")
    assert written == [["default"], ["default", "critic"], None]


def test_a_run_folder_that_was_moved_is_still_its_model(start, rows, seen, tmp_path):
    trained = train_step("sft-lora", start, rows, tmp_path / "sft")
    folder = train_step("grpo-lora", trained, rows, tmp_path / "grpo")
    shutil.rmtree(tmp_path / "sft")
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "mine"
    shutil.move(tmp_path / "grpo", moved)
    assert ours(moved / "model") == pytest.approx(seen[str(folder)], abs=2e-4)
    assert ours(moved / "checkpoints/checkpoint-2") == pytest.approx(seen[str(folder)], abs=2e-4)
    again = train_step("sft-full", moved / "model", rows, tmp_path / "again", *STILL)
    assert plain_nlls(again) == pytest.approx([seen[str(folder)]] * 3, abs=2e-4)  # plain libraries find its base, too
    shutil.rmtree(moved / "base")
    with pytest.raises(ValueError, match=r"no such folder is there.*base_model_name_or_path"):
        ours(moved / "model")


def test_the_base_of_an_adapter_outlives_the_cache_and_the_run_it_came_from(rows, seen, tmp_path):
    task = Task("any", [{"prompt": "a"}], [], [lambda completions, **_: [0.0] * len(completions)], [1.0])
    cached = embedded(task, hidden=16, layers=1, heads=2, intermediate=16).model.name_or_path
    first = train_step("sft-lora", cached, rows, tmp_path / "first")
    shutil.rmtree(tmp_path / "cache")
    assert plain_nlls(first) == pytest.approx([seen[str(first)]] * 3, abs=2e-4)
    second = train_step("grpo-full", first, rows, tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    assert plain_nlls(second) == pytest.approx([seen[str(second)]] * 3, abs=2e-4)


def test_a_base_named_by_a_relative_path_is_found_from_any_folder(start, rows, seen, monkeypatch, tmp_path):
    monkeypatch.chdir(start.parent)
    folder = train_step("sft-lora", "start", rows, tmp_path / "run")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert plain_nlls(folder) == pytest.approx([seen[str(folder)]] * 3, abs=2e-4)


def test_a_run_does_not_delete_the_model_it_starts_from(start, rows, tmp_path):
    trained = train_step("sft-lora", start, rows, tmp_path / "run")
    with pytest.raises(ValueError, match=r"overwrite=true would delete .*run_dir="):
        train_step("grpo-lora", trained, rows, tmp_path / "run", "overwrite=true")
    assert (trained / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_training_on_forgets_the_temperature_of_lhts(kind, start, rows, tmp_path):
    tempered = train_step(f"lhts-{kind}", start, rows, tmp_path / "lhts")
    folder = train_step("grpo-full", tempered, rows, tmp_path / "grpo")
    assert not (folder / "lhts.json").exists()
    assert kind == "lora" or not json.loads((folder / "config.json").read_text()).get("lhts")


PEFTS = {
    "embeddings": ["+model.peft.modules_to_save=[embed_tokens]", "model.peft.target_modules=[q_proj]"],
    "head": ["+model.peft.modules_to_save=[lm_head]", "model.peft.target_modules=[q_proj]"],
    "bias": ["model.peft.bias=all"],
    "rslora": ["+model.peft.use_rslora=true"],
    "dora": ["+model.peft.use_dora=true"],
    "gaussian": ["+model.peft.init_lora_weights=gaussian"],
    "random": ["+model.peft.init_lora_weights=false"],
    "pissa": ["+model.peft.init_lora_weights=pissa"],
    "olora": ["+model.peft.init_lora_weights=olora"],
    "patterns": ["+model.peft.rank_pattern={q_proj: 2}", "+model.peft.alpha_pattern={q_proj: 8}"],
}


@pytest.mark.parametrize("case", [c if c == "embeddings" else pytest.param(c, marks=pytest.mark.slow) for c in PEFTS])
def test_adapters_of_every_make_reload_and_can_be_trained_on(case, start, rows, seen, tmp_path):
    first = train_step("sft-lora", start, rows, tmp_path / "first", *PEFTS[case])
    assert plain_nlls(first) == pytest.approx([seen[str(first)]] * 3, abs=2e-4)
    for step in ("sft-full", "sft-lora", "sft-merged"):
        folder = train_step(step, first, rows, tmp_path / step, *STILL)
        found = plain_nlls(folder)
        assert found == pytest.approx([seen[str(first)]] * len(found), abs=2e-3), step


@pytest.mark.parametrize("init", ["pissa_niter_4", "corda", "lora_ga"])
def test_an_adapter_that_loading_cannot_repeat_is_refused(init, start, rows, tmp_path):
    with pytest.raises(ValueError, match="Use pissa, olora or true"):
        train_step("sft-lora", start, rows, tmp_path / "run", f"+model.peft.init_lora_weights={init}")
    assert not (tmp_path / "run").exists()


def test_a_reference_that_would_not_be_the_start_is_refused(start, rows, tmp_path):
    pissa = ["+model.peft.init_lora_weights=pissa"]
    with pytest.raises(ValueError, match=r"model\.peft\.init_lora_weights=true"):
        train_step("grpo-lora", start, rows, tmp_path / "run", *pissa, "trainer.beta=0.1")
    trained = train_step("grpo-lora", start, rows, tmp_path / "grpo", *pissa)
    with pytest.raises(ValueError, match=r"model\.merge_adapter=true"):
        train_step("lhts-full", trained, rows, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def hub(cache, start, monkeypatch):
    """A hub model in the cache, whose branches main and dev hold other weights."""
    home, commits = cache / "models--me--small", {"main": "1" * 40, "dev": "2" * 40}
    (home / "refs").mkdir(parents=True)
    for seed, (branch, commit) in enumerate(commits.items()):
        (home / "refs" / branch).write_text(commit)
        save_model(home / "snapshots" / commit, byte_tokenizer(), seed=seed)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return commits


def test_an_adapter_is_of_the_revision_that_it_was_trained_on(start, rows, seen, monkeypatch, tmp_path):
    commits = hub(tmp_path / "hub", start, monkeypatch)
    folder = train_step("sft-lora", "me/small", rows, tmp_path / "run", "model.revision=dev")
    facts = json.loads((folder / "adapter_config.json").read_text())
    assert (facts["base_model_name_or_path"], facts["revision"]) == ("me/small", commits["dev"])
    assert plain_nlls(folder)[0] == pytest.approx(seen[str(folder)], abs=2e-4)
    assert ours(folder) == pytest.approx(seen[str(folder)], abs=2e-4)


def test_the_reference_of_a_full_run_is_of_its_revision(start, rows, monkeypatch, tmp_path):
    hub(tmp_path / "hub", start, monkeypatch)
    more = ["model.revision=dev", "trainer.beta=0.1", "trainer.max_steps=3"]
    train_step("grpo-full", "me/small", rows, tmp_path / "grpo", *more)
    log = [json.loads(line) for line in (tmp_path / "grpo/metrics.jsonl").read_text().splitlines()]
    kl = [row["kl"] for row in log if row.get("kl") is not None]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[-1] > 1e-3


@pytest.mark.slow
def test_new_tokens_that_came_with_an_adapter_are_kept(start, rows, seen, tmp_path):
    """As a user makes them: tokens added, embeddings resized, an adapter trained by peft."""
    from peft import LoraConfig, get_peft_model

    tokenizer = AutoTokenizer.from_pretrained(start)
    tokenizer.add_tokens(["<one>", "<two>"])
    model = AutoModelForCausalLM.from_pretrained(start)
    model.resize_token_embeddings(len(tokenizer))
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2))
    adapted.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    begun = nll(adapted, tokenizer)
    for step in ("sft-full", "sft-lora", "grpo-merged", "lhts-full"):
        folder = train_step(step, tmp_path / "theirs", rows, tmp_path / step, *STILL)
        assert plain_nlls(folder) == pytest.approx([begun] * len(plain_nlls(folder)), abs=2e-3), step
        assert len(AutoTokenizer.from_pretrained(folder)) == 259


def test_a_model_folder_keeps_type_template_and_generation_settings(start, rows, tmp_path):
    GenerationConfig(max_new_tokens=77, temperature=0.6, do_sample=True).save_pretrained(start)
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    given = ["model.dtype=bfloat16", f"model.chat_template={tmp_path / 'mine.jinja'}"]
    for step in ("sft-full", "grpo-full", "lhts-full"):
        folder = train_step(step, start, rows, tmp_path / step, *given)
        kept = GenerationConfig.from_pretrained(folder)
        assert (kept.max_new_tokens, kept.temperature) == (77, 0.6), step
        assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False) == "[a]"
