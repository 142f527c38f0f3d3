"""The embedded policy: exact texts, one build for everybody, no trace in the run's randomness."""

import multiprocessing
import random
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import trainers.model.embedded as module
from tasks.base import Task
from tasks.chain import VOCABULARY, chain
from tasks.doors import doors
from trainers.model.embedded import byte_tokenizer, closed_tokenizer, embedded
from trainers.model.pretrained import hf
from trainers.model.warm_start import (
    COMPLETE,
    WarmStart,
    build_once,
    by_length,
    encode_rows,
    pretrain_settings,
    warm_start,
)

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 16}
SHORT = {"steps": 3, "batch": 8}
CLOSED, BYTES = closed_tokenizer(VOCABULARY), byte_tokenizer()


def no_reward(completions, **_):
    return [0.0] * len(completions)


@pytest.fixture(scope="module")
def task():
    return chain(n_train=40, n_eval=10)


@pytest.fixture
def build(task, tmp_path):
    def builder(task=task, **settings):
        return embedded(task, **{**SMALL, "pretrain": SHORT, "cache_dir": tmp_path, **settings})

    return builder


def weights(policy):
    return torch.cat([parameter.detach().flatten() for parameter in policy.model.parameters()])


def ids_and_back(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    return ids, tokenizer.decode(ids, skip_special_tokens=True)


@given(st.lists(st.sampled_from(VOCABULARY)))
def test_the_closed_tokenizer_gives_every_text_of_its_vocabulary_back_one_id_a_piece(pieces):
    ids, text = ids_and_back(CLOSED, "".join(pieces))
    assert text == "".join(pieces) and len(ids) == len(pieces)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_byte_tokenizer_gives_any_text_back_one_id_a_byte(text):
    if module.EOS not in text:
        ids, back = ids_and_back(BYTES, text)
        assert back == text and len(ids) == len(text.encode())


@given(
    st.lists(st.text("ab<>/.*+?[](){}|^$\\- \n", min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
    st.data(),
)
def test_letters_that_mean_something_in_regular_expressions_are_plain_in_a_vocabulary(words, data):
    word = data.draw(st.sampled_from(words))
    assert ids_and_back(closed_tokenizer(words), word)[1] == word


def test_every_text_of_the_chain_task_comes_back_exactly(task):
    texts = [row["prompt"] for row in (*task.train, *task.evaluation)]
    texts += [row["prompt"] + row["completion"] for row in task.demonstrations(500, 0)]
    assert all(ids_and_back(CLOSED, text)[1] == text for text in texts)


def test_tags_are_ordinary_tokens():
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        (token,) = CLOSED(tag)["input_ids"]
        assert token not in CLOSED.all_special_ids


def test_the_only_token_that_vanishes_in_decoding_is_the_end_of_text():
    assert CLOSED.all_special_ids == [CLOSED.eos_token_id] == [CLOSED.pad_token_id]
    assert BYTES.all_special_ids == [BYTES.eos_token_id]


@pytest.mark.parametrize("words", [[], ["a", "a"], ["a", ""], ["<eos>"]])
def test_a_vocabulary_needs_distinct_entries(words):
    with pytest.raises(ValueError, match="distinct"):
        closed_tokenizer(words)


def test_a_task_text_outside_of_the_vocabulary_is_named(build):
    task = Task("mine", [{"prompt": "ab"}, {"prompt": "abc"}], [], [no_reward], [1.0], vocabulary=("a", "b"))
    with pytest.raises(ValueError, match="cannot spell the prompt 'abc'"):
        build(task)


def test_the_cached_policy_is_the_built_one_bit_for_bit(build):
    assert torch.equal(weights(build()), weights(build()))


def test_the_weights_do_not_depend_on_the_runs_randomness(build, tmp_path):
    torch.manual_seed(1)
    first = build(cache_dir=tmp_path / "a")
    torch.manual_seed(2)
    torch.rand(7)
    assert torch.equal(weights(first), weights(build(cache_dir=tmp_path / "b")))


def test_neither_building_nor_loading_moves_the_runs_randomness(build):
    def draws(action):
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        action()
        return random.random(), np.random.rand(), torch.rand(1).item()

    untouched = draws(lambda: None)
    assert draws(build) == untouched  # cold
    assert draws(build) == untouched  # warm


def test_the_warm_start_runs_on_one_thread_and_gives_the_others_back(build, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "trainers.model.warm_start.by_length", lambda rows: seen.append(torch.get_num_threads()) or by_length(rows)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        build()
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 24},
        {"layers": 2},
        {"initializer_range": 0.1},
        {"position": "learned", "task": doors(count=3)},
        {"max_positions": 64},
        {"pretrain": {**SHORT, "lr": 1e-3}},
        {"pretrain": {**SHORT, "seed": 1}},
        {"pretrain": {**SHORT, "steps": 4}},
        {"task": chain(n_train=40, n_eval=10, noise={"p_think": 0.6})},
        {"task": chain(n_train=40, n_eval=10, terms=(2, 4))},
    ],
    ids=lambda change: " ".join(change),
)
def test_whatever_the_weights_depend_on_makes_another_entry(build, tmp_path, change):
    build()
    build(**change)
    assert len(list((tmp_path / "embedded").glob("*/" + COMPLETE))) == 2


def test_what_the_weights_do_not_depend_on_makes_no_other_entry(build, tmp_path):
    build()
    build(task=chain(n_train=99, n_eval=10))
    build(task=chain(n_train=40, n_eval=256))
    assert len(list((tmp_path / "embedded").glob("*/" + COMPLETE))) == 1


def test_a_new_code_version_makes_another_entry(build, tmp_path, monkeypatch):
    build()
    monkeypatch.setattr(module, "BUILD_VERSION", module.BUILD_VERSION + 1)
    build()
    assert len(list((tmp_path / "embedded").glob("*/" + COMPLETE))) == 2


@pytest.mark.parametrize("damage", ["truncated weights", "no tokenizer", "half built", "no config"])
def test_a_broken_entry_is_built_again(build, tmp_path, damage):
    sound = weights(build())
    (mark,) = (tmp_path / "embedded").glob("*/" + COMPLETE)
    broken = {
        "truncated weights": mark.with_name("model.safetensors"),
        "no tokenizer": mark.with_name("tokenizer.json"),
        "half built": mark,
        "no config": mark.with_name("config.json"),
    }[damage]
    if damage == "truncated weights":
        broken.write_bytes(broken.read_bytes()[:100])
    else:
        broken.unlink()
    assert torch.equal(weights(build()), sound)
    assert mark.exists() and broken.exists()


def slow_build(folder):
    time.sleep(0.3)
    (folder / "value").write_text("built")
    with (folder.parent / "builds").open("a") as log:
        log.write("built\n")


def read_value(folder):
    return (folder / "value").read_text()


def build_in_process(folder, queue):
    queue.put(read_value(build_once(folder, slow_build)))


def test_concurrent_processes_build_once_and_all_load(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=build_in_process, args=(tmp_path / "entry", queue)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=30) for _ in processes] == ["built"] * 4
    for process in processes:
        process.join()
    assert (tmp_path / "builds").read_text().count("built") == 1


def embedded_in_rank(rank, task, folder, queue):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    settings = {**SMALL, "pretrain": SHORT, "cache_dir": folder}
    policy = embedded(task, **settings) if rank == 1 else None
    torch.distributed.barrier()
    queue.put(weights(policy or embedded(task, **settings)).tolist())
    torch.distributed.destroy_process_group()


def test_any_rank_of_a_process_group_can_build(task, tmp_path):
    """Of several machines each builds its own, so a builder need not be rank 0, the only one that transformers saves on."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=embedded_in_rank, args=(rank, task, tmp_path, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    first, second = (queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert first == second


def test_the_files_are_those_of_save_pretrained(build, tmp_path):
    policy = build()
    (entry,) = (tmp_path / "embedded").glob("chain-*/")
    policy.model.save_pretrained(tmp_path / "theirs")
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        assert (entry / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


def test_a_build_that_fails_leaves_no_entry_and_the_next_one_clears_its_remains(tmp_path):
    def failing(folder):
        (folder / "value").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        build_once(tmp_path / "entry", failing)
    assert not (tmp_path / "entry").exists()
    (tmp_path / "entry.abandoned").mkdir()  # what a process leaves that was killed outright
    assert read_value(build_once(tmp_path / "entry", slow_build)) == "built"
    assert not (tmp_path / "entry.abandoned").exists()


def test_a_cache_that_cannot_be_written_costs_a_warning_and_not_the_run(build, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    policy = build(cache_dir=tmp_path / "file" / "cache")
    assert "cannot be written" in caplog.text
    assert torch.equal(weights(policy), weights(build(cache_dir=tmp_path / "good")))


def test_the_environment_names_the_cache(build, tmp_path, monkeypatch):
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "named"))
    build(cache_dir=None)
    assert list((tmp_path / "named" / "embedded").glob("chain-*/model.safetensors"))


def test_a_warm_start_learns_the_demonstrations(task):
    model = module.initial_model(
        module.decoder_config(CLOSED, **SMALL, position="rope", max_positions=64, initializer_range=0.05), seed=0
    )
    settings = WarmStart(steps=40, batch=16, lr=1e-2)
    losses = warm_start(model, CLOSED, task.demonstrations(40 * 16, 0), settings, "test")
    assert losses[0] == pytest.approx(np.log(len(CLOSED)), abs=0.1)  # uniform over the vocabulary
    assert np.mean(losses[-5:]) < 0.85 * losses[0]


def test_the_split_by_length_changes_no_loss(task, monkeypatch):
    losses = {}
    for parts in (1, 4):
        monkeypatch.setattr("trainers.model.warm_start.by_length.__defaults__", (parts,))
        config = module.decoder_config(CLOSED, **SMALL, position="rope", max_positions=64, initializer_range=0.05)
        model = module.initial_model(config, seed=0)
        losses[parts] = warm_start(model, CLOSED, task.demonstrations(80, 0), WarmStart(steps=5, batch=16), "test")
    assert losses[1] == pytest.approx(losses[4], abs=1e-5)


def test_the_loss_is_the_completions_mean_negative_log_probability(task):
    """Against a plain loop over rows, one at a time, without padding."""
    config = module.decoder_config(CLOSED, **SMALL, position="rope", max_positions=64, initializer_range=0.5)
    model = module.initial_model(config, seed=0)
    rows = task.demonstrations(6, 0)
    logps = []
    with torch.no_grad():
        for prompt, completion in encode_rows(CLOSED, rows):
            log_softmax = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
            logps += [log_softmax[len(prompt) + t - 1, token].item() for t, token in enumerate(completion)]
            assert completion[-1] == CLOSED.eos_token_id
    (loss,) = warm_start(model, CLOSED, rows, WarmStart(steps=1, batch=6), "test")
    assert loss == pytest.approx(-np.mean(logps), abs=1e-5)


def test_the_folder_of_an_embedded_policy_is_a_hugging_face_model(task, build, tmp_path):
    policy = build()
    (entry,) = (tmp_path / "embedded").glob("chain-*/")
    again = hf(task, name=str(entry))
    assert type(policy.model).__name__ == "LlamaForCausalLM" and policy.model.dtype == torch.float32
    assert torch.equal(weights(policy), weights(again))
    assert ids_and_back(again.tokenizer, "3+5=<think>3 8</think>") == ids_and_back(CLOSED, "3+5=<think>3 8</think>")
    assert again.tokenizer.eos_token_id == policy.tokenizer.eos_token_id


def test_generation_stops_at_the_end_of_text_and_pads_on_the_left(build):
    policy = build()
    batch = policy.tokenizer(["1+2=", "1+2+3="], padding=True, return_tensors="pt")
    assert batch["attention_mask"].tolist()[0][:2] == [0, 0]
    assert policy.model.generation_config.eos_token_id == policy.tokenizer.eos_token_id
    assert policy.model.generation_config.pad_token_id == policy.tokenizer.pad_token_id


def test_learned_positions_fit_a_task_of_one_prompt_length_and_are_refused_otherwise(build):
    policy = build(doors(count=5), position="learned")
    assert type(policy.model).__name__ == "GPT2LMHeadModel"
    assert policy.model.config.n_positions >= 4 + 5
    with pytest.raises(ValueError, match=r"one length.*position=rope"):
        build(position="learned")


def test_a_task_without_demonstrations_starts_from_random_weights_and_says_so(build, caplog):
    task = Task("mine", [{"prompt": "wie geht's?"}], [], [no_reward], [1.0])
    policy = build(task)
    assert "no demonstrations" in caplog.text
    assert ids_and_back(policy.tokenizer, "Zürich")[1] == "Zürich"


def test_chat_demonstrations_are_imitated_behind_the_chat_template(build):
    chat = [{"role": "user", "content": "hi"}]
    rows = [{"prompt": chat, "completion": "hello"}]
    task = Task("mine", [{"prompt": chat}], [], [no_reward], [1.0], demonstrations=lambda count, seed: rows * count)
    policy = build(task)
    text = policy.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert text == "user: hi\nassistant: "


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 15}, "model.hidden"),
        ({"hidden": 6, "heads": 2}, "even number"),
        ({"position": "alibi"}, "choose one of"),
        ({"pretrain": {"step": 3}}, "Did you mean `steps`"),
        ({"pretrain": {"steps": "many"}}, "must be of type int"),
        ({"pretrain": {"steps": 2.5}}, "must be of type int"),
        ({"pretrain": {"lr": 0}}, "lr > 0"),
        ({"position": "learned", "task": doors(count=5), "max_positions": 6}, "set model.max_positions=10"),
    ],
)
def test_wrong_settings_are_refused_with_the_remedy(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_settings_from_yaml_strings_are_read_as_numbers():
    assert pretrain_settings({"lr": "3e-3", "steps": 10.0}) == WarmStart(steps=10, lr=3e-3)


@pytest.mark.slow
def test_the_default_warm_start_leaves_about_a_third_of_the_reward(tmp_path):
    """Four samples at temperature 1 for each evaluation prompt: 1,024 samples, a standard error of 0.014."""
    task = chain()
    policy = embedded(task, cache_dir=None)
    rows = task.evaluation * 4
    batch = policy.tokenizer([row["prompt"] for row in rows], padding=True, return_tensors="pt")
    torch.manual_seed(0)
    ids = policy.model.generate(**batch, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=64)
    texts = policy.tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    values = [func(completions=texts, answer=[row["answer"] for row in rows]) for func in task.reward_funcs]
    reward = sum(weight * np.mean(value) for weight, value in zip(task.reward_weights, values, strict=True))
    assert 0.25 < reward < 0.45
