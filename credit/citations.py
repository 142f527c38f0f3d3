"""The papers that declarations name, for whoever publishes a model. What a member's source is stands in its declaration
(credit/declare.py); here is what an arXiv id of it is called.

    bibtex("2402.03300")   @misc{shao2024deepseekmath, ...}
"""

from __future__ import annotations

import re

# arXiv id -> (first author, title, year)
PAPERS: dict[str, tuple[str, str, int]] = {
    "1506.02438": (
        "Schulman, John",
        "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
        2015,
    ),
    "1707.06347": ("Schulman, John", "Proximal Policy Optimization Algorithms", 2017),
    "1806.07857": ("Arjona-Medina, Jose A.", "RUDDER: Return Decomposition for Delayed Rewards", 2018),
    "2111.13485": (
        "Ren, Zhizhou",
        "Learning Long-Term Reward Redistribution via Randomized Return Decomposition",
        2021,
    ),
    "2302.03686": ("Shih, Andy", "Long Horizon Temperature Scaling", 2023),
    "2306.13649": (
        "Agarwal, Rishabh",
        "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
        2023,
    ),
    "2402.03300": (
        "Shao, Zhihong",
        "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        2024,
    ),
    "2402.14740": (
        "Ahmadian, Arash",
        "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
        2024,
    ),
    "2412.05271": (
        "Chen, Zhe",
        "Expanding Performance Boundaries of Open-Source Multimodal Models with Model, Data, and Test-Time Scaling",
        2024,
    ),
    "2501.03262": (
        "Hu, Jian",
        "REINFORCE++: A Simple and Efficient Approach for Aligning Large Language Models",
        2025,
    ),
    "2502.01456": ("Cui, Ganqu", "Process Reinforcement through Implicit Rewards", 2025),
    "2503.14476": ("Yu, Qiying", "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", 2025),
    "2503.20783": ("Liu, Zichen", "Understanding R1-Zero-Like Training: A Critical Perspective", 2025),
    "2504.05118": (
        "Yue, Yu",
        "VAPO: Efficient and Reliable Reinforcement Learning for Advanced Reasoning Tasks",
        2025,
    ),
    "2505.20686": ("Brantley, Kianté", "Accelerating RL for LLM Reasoning with Optimal Advantage Regression", 2025),
    "2505.23585": ("Hao, Yaru", "On-Policy RL with Optimal Reward Baseline", 2025),
    "2506.01939": (
        "Wang, Shenzhi",
        "Beyond the 80/20 Rule: High-Entropy Minority Tokens Drive Effective Reinforcement Learning for LLM Reasoning",
        2025,
    ),
    "2507.01551": (
        "Fei, Wu",
        "Self-Guided Process Reward Optimization with Redefined Step-wise Advantage for Process Reinforcement Learning",
        2025,
    ),
    "2507.18071": ("Zheng, Chujie", "Group Sequence Policy Optimization", 2025),
    "2508.04349": (
        "Tan, Hongze",
        "GTPO and GRPO-S: Token and Sequence-Level Reward Shaping with Policy Entropy",
        2025,
    ),
    "2508.08221": ("Liu, Zihe", "Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning", 2025),
    "2509.13232": ("Xu, Zhongwen", "Single-stream Policy Optimization", 2025),
    "2606.22995": (
        "Wang, Yunan",
        "Group-Graph Policy Optimization for Long-Horizon Agentic Reinforcement Learning",
        2026,
    ),
    "2605.15155": ("Lu, Zhengxi", "Self-Distilled Agentic Reinforcement Learning", 2026),
    "2510.14967": (
        "Wang, Guoqing",
        "Information Gain-based Policy Optimization: A Simple and Effective Approach for Multi-Turn LLM Agents",
        2025,
    ),
    "2602.05261": (
        "",
        "Length-Unbiased Sequence Policy Optimization: Revealing and Controlling Response Length Variation in RLVR",
        2026,
    ),
}


def papers_in(text: str) -> list[str]:
    """The arXiv ids that a source names, each once, in its order."""
    return list(dict.fromkeys(re.findall(r"\b(\d{4}\.\d{5})\b", text)))


def bibtex(arxiv: str) -> str:
    """A BibTeX entry; of an id that is not in the table, its address alone."""
    author, title, year = PAPERS.get(arxiv, ("", f"arXiv:{arxiv}", 2000 + int(arxiv[:2])))
    fields = {"author": f"{author} and others" if author else "", "title": f"{{{title}}}", "year": str(year)}
    fields |= {"eprint": arxiv, "archivePrefix": "arXiv", "url": f"https://arxiv.org/abs/{arxiv}"}
    key = f"{re.sub(r'[^a-z]', '', author.partition(',')[0].lower()) or 'arxiv'}{arxiv.replace('.', '_')}"
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{key},", *lines, "}"])
