"""Tokens a second: SMC with N particles, N independent token-tempered texts, and transformers' own generate.

    python benchmarks/cost/samplers.py [--particles 64] [--rounds 5] [--gpu]

All three continue the same prompt with the same model, at most the same number of tokens; rounds go in turn. Seconds are
this process's processor time on a CPU, so that other programs do not count, and wall time on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from sampling.ancestral import TokenTemperature
from sampling.causal_lm import CausalLM
from sampling.smc import SMC
from tasks.chain import chain
from trainers.model.embedded import embedded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("particles", 64), ("rounds", 5), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tau", type=float, default=0.5)
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = chain()
    policy = embedded(task)
    model = policy.model.to("cuda" if options.gpu else "cpu").eval()
    lm = CausalLM(model, policy.tokenizer)
    prompts = [policy.tokenizer(row["prompt"])["input_ids"] for row in task.evaluation[:: len(task.evaluation) // 8]]
    count, longest = options.particles, task.max_completion_length

    def smc(prompt, generator):
        sampler = SMC(count, threshold=0.9, keep=count)
        return sampler(lm, [prompt], options.tau, count, longest, generator).tokens_per_sample * count

    def independent(prompt, generator):
        return TokenTemperature()(lm, [prompt], options.tau, count, longest, generator).tokens_per_sample * count

    def generate(prompt, generator):
        ids = torch.tensor([prompt] * count, device=lm.device)
        settings = {"do_sample": True, "temperature": options.tau, "top_k": 0, "top_p": 1.0, "max_new_tokens": longest}
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=lm.pad_id, **settings)
        new = out[:, len(prompt) :]
        ended = (new == policy.tokenizer.eos_token_id).int()
        return int(((ended.cumsum(1) - ended) == 0).sum())

    ways = {"SMC": smc, "independent": independent, "generate": generate}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        generator = torch.Generator(lm.device).manual_seed(number)
        for name, way in ways.items():
            clock = time.perf_counter if options.gpu else time.process_time
            began, tokens = clock(), 0
            for prompt in prompts:
                tokens += way(prompt, generator)
            if options.gpu:
                torch.cuda.synchronize()
            if number:  # the first round warms up
                rates[name].append(tokens / (clock() - began))
    for name, found in rates.items():
        print(f"{name:<12} {statistics.median(found):9.0f} tokens a second ({min(found):.0f} to {max(found):.0f})")
    shares = [a / b for a, b in zip(rates["SMC"], rates["independent"], strict=True)]
    print(f"SMC over independent: median {statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})")


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
