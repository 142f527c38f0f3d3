"""Mathematical equality, on answers as competitions have them (competition_answers.txt, one a line)."""

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.answers.latex import normal_form
from rewards.answers.same import same
from rewards.answers.values import value
from rewards.extract import in_tag, whole_text
from rewards.guard import guarded
from rewards.maths import math_equal
from support.text_strategies import mixed

ANSWERS = (Path(__file__).parent / "competition_answers.txt").read_text().splitlines()
# Lines of answers in that file which are one value, or a value with and without its name or unit.
ALIKE = r"""
x=5 | 5 | y=5 | \$5.00 | r = 5
x = 3 | 3
10\text{C} | 10
-2,1 | 1,-2
1.5 | \frac{3}{2}
B | \text{(B)}
0.5 | \frac{1}{2} | \frac12 | 1/2
\frac34 | \dfrac{3}{4} | 75\% | 3/4
2.5 | 2\frac{1}{2}
15 | 15\mbox{ cm}^2
\frac{1}{2} + \frac{\sqrt{3}}{2} i | e^{i\pi/3}
-\frac13 | -\frac{1}{3}
1024 | 2^{10}
256 | 2^8
x=-1 | e^{\pi i} | -1
\pm 1 | \{-1, 1\}
(1,2),(2,1) | \{(1,2),(2,1)\}
7 | a=7 | b = 7
2 | m = 2 | 2.0 | \lambda = 2
\sec^2 x - 1 | \tan^2 x
30 | 30^\circ
60 | 60^{\circ}
120 | 120^\circ | 5!
75 | 75\text{ degrees}
50 | 50\text{ mph}
40 | 40\text{ miles}
12 | 12 \text{ cm} | n = 12
\$36 | 36\text{ square inches} | 36
18 | 18 \text{ units}^2
25 | 25 \text{ feet}
\text{6 hours} | 6 \text{ hours} | 6
66\frac23 | 66\frac{2}{3}
12.5 | 12\frac12
1\frac45 | 1\frac{4}{5}
1e3 | 1000
\mathbf{0} | 0
N = 8 | 8
\sum_{k=1}^n k | \frac{n(n+1)}{2}
\text{A} | A | \text{(A)}
\text{(C)} | C | \text{C}
\text{(D)} | D
3, -3 | \pm 3
\{2,3,5\} | 2, 3, 5
(3x-2)^2 | 9x^2 - 12x + 4
-\frac{\sqrt{2}}{2} | -\sqrt{2}/2
10^{-3} | 0.001
"""
SAME = r"""
3\sqrt{13} | 3 \sqrt {13}
3\sqrt{13} | 3sqrt(13)
3\sqrt{13} | 3*sqrt(13)
3\sqrt{13} | \sqrt{117}
\left( 3, \frac{\pi}{2} \right) | (3, pi/2)
\left( 3, \frac{\pi}{2} \right) | $(3,\dfrac{\pi}{2})$
\text{Evelyn} | Evelyn
\text{Evelyn} | evelyn
\text{Evelyn} | \mathrm{Evelyn}
\text{Evelyn} | \textbf{Evelyn}
\frac{14}{3} | 14/3
\frac{14}{3} | 4\frac{2}{3}
\frac{14}{3} | 4 2/3
10,080 | 10080
10,080 | 10{,}080
\$32,\!348 | 32348
\$32,\!348 | \$32{,}348
\$32,\!348 | $32,348
3, 5, 7 | 7, 5, 3
3, 5, 7 | 3,5,7
3, 5, 7 | 3, 5, and 7
3, 5, 7 | 3, 5 and 7
3, 5, 7 | \{3,5,7\}
1331 and 1728 | 1331, 1728
1331 \text{ and } 1728 | 1728, 1331
1 \pm \sqrt{19} | 1 - \sqrt{19}, 1 + \sqrt{19}
1 \pm \sqrt{19} | 1+\sqrt{19}, 1-\sqrt{19}
x = 1 \text{ or } x = 2 | 1, 2
x=5 | 5
y = 2x + 3 | y=3+2x
y = 2x + 3 | 2x - y + 3 = 0
5x - 7y + 11z + 4 = 0 | -5x+7y-11z-4=0
x \in [-2,7] | [-2,7]
x \in [-2,7] | -2 \le x \le 7
(-\infty,2] | x \le 2
(3,\infty) | x > 3
(3,\infty) | 3 < x
(-\infty, -3) \cup (3, \infty) | (3,\infty)\cup(-\infty,-3)
(-\infty, -3) \cup (3, \infty) | (-inf, -3) U (3, inf)
[2,\infty) | [2, ∞)
\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix} | \begin{bmatrix} -\frac13 \\ \frac23 \\ \frac53 \end{bmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \left(\begin{matrix}1&2\\3&4\end{matrix}\right)
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix}1&2\\3&4\\\end{pmatrix}
90^\circ | 90
90^\circ | 90°
90^\circ | 90 degrees
90^\circ | 90^{\circ}
15\mbox{ cm}^2 | 15
15\mbox{ cm}^2 | 15 \text{ cm}^2
15\mbox{ cm}^2 | 15 cm^2
15\mbox{ cm}^2 | 15 square centimeters
2516_8 | 2516_{8}
2516_8 | 2516_{\text{8}}
0.\overline{45} | \frac{5}{11}
0.\overline{45} | 5/11
\frac{1}{3} | 0.333333
\sqrt{2} | 1.414214
\frac{270}7\text{ degrees} | \frac{270}{7}
6 - 5i | -5i + 6
e^{i\pi} | -1
.35625 | 0.35625
\text{(B)} | B
\text{(B)} | (B)
\text{(B)} | \text{B}
x^2+3x | x(x+3)
\frac{x+3}{x-2} | (x+3)/(x-2)
70 \text{ inches} | 70
12:00 | 12:00
\frac{\sqrt{3}}{2} | \frac{1}{2}\sqrt{3}
\frac{\sqrt{3}}{2} | sqrt(3)/2
\tan x | tan x
\cot x | \frac{1}{\tan x}
\sin^2 x | 1-\cos^2 x
2\pi | 2pi
2\pi | 2π
\infty | infinity
\text{even} | even
p - q | -q+p
D,E | E, D
\text{two lines} | Two lines
3R^2 | 3 R^2
x^{2}+1 | x^2 + 1
\frac{1}{2} | \left(\frac{1}{2}\right)
42 | 42.
42 | \boxed{42}
42 | $42$
42 | \(42\)
42 | 42.0
42 | \text{42}
f(x) = x^2 + 1 | x^2+1
\log_2 3 | \frac{\ln 3}{\ln 2}
(x-1)(x+2) | x^2+x-2
5^{3/2} | 5\sqrt{5}
a+b | b + a
\frac{3}{4}x^2 | 0.75x^2
10^{-3} | 0.001
5.4 \cdot 10^3 | 5400
6 \times 10^{-3} | 0.006
1\% | 0.01
50\% | \frac12
\text{June 20} | June 20
\emptyset | \varnothing
\mathbb{R} | \mathbb R
(-\infty,\infty) | x \in (-\infty,\infty)
\{-1,1\} | \pm 1
-\frac{1}{2} | \frac{-1}{2}
-\frac{1}{2} | -0.5
(2,-3) | (x,y)=(2,-3)
\text{Navin} | \text{ Navin }
\dbinom{10}{5} | 252
2^{10} | 1024
\left| x - 2 \right| | |x-2|
\lfloor x \rfloor | \left\lfloor x\right\rfloor
\sqrt[3]{4} | 4^{1/3}
137 \frac{1}{2} | 137.5
11\sqrt2 | 11\sqrt{2}
864 \mbox{ inches}^2 | 864
58,\!500 | 58,500
\$18.90 | 18.9
6.02 \times 10^{23} | 6.02e23
\{1,2\} | \left\{1,2\right\}
\text{A, C} | A, C
\text{A, C} | A,C
\text{no solution} | No solution
y^2 = 8x | 8x = y^2
3 | x=3
-\frac{\pi}{6} | -\pi/6
\frac{21}{4} \pi | \frac{21\pi}{4}
x \neq 2 | x \ne 2
-3 \leq x < 5 | [-3,5)
\angle B | \angle B
\overline{AB} | \overline{AB}
10 \text{ cm} | 10\,\text{cm}
10 \text{ cm} | 10\ \mathrm{cm}
\text{Yes} | yes
\text{True} | True
100\pi\text{ cm}^2 | 100\pi
\frac{5}{8} | .625
"""
DIFFERENT = r"""
3 | 3\sqrt{13}
7 | 3, 5, 7
1728 | 1331 and 1728
x=5 | y=5
(0,1) | [0,1]
(0,1) | (0,1]
(1,2) | (2,1)
1,2 | 1,2,3
3,5 | 3,5,5
\{1\} | 1
\text{Evelyn} | \text{Carla}
2516_8 | 2516
52_8 | 42
52_8 | 52_6
\sqrt{51} | 51
6-5i | 6+5i
90^\circ | 91^\circ
5\text{ cm} | 5\text{ m}
\text{even} | \text{odd}
0.\overline{45} | 0.45
1\% | 1
10,080 | 10
10,080 | 80
(-\infty,-3) | (-\infty,3)
x<3 | x>3
x<3 | x \le 3
y<3 | x<3
y=2x+3 | y=2x-3
x^2+1 | x^2+2
2^{100} | 2^{100}-1
3^{2006} | 3^{2006}+1
a+b | a-b
ab | a+b
|x| | x
\sqrt{x^2} | x
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}2\\1\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1&2\end{pmatrix}
1:2 | 2:1
12:00 | 12:30
8:15 \text{ PM} | 8:15 \text{ AM}
\pi | 3.14
\frac13 | 0.33
\frac{1}{8} | 0.1250001
.0000672 | .0000673
2 | -2
\pm 1 | 1
5 | 5x
2m | 2
3t | 3
A | B
\text{A} | \text{B}
x | X
x | y
AB | ba
n! | n
\infty | -\infty
\infty | 0
\sin x | \cos x
x=5 | x=6
x=5 | x^2=25
0 | \emptyset
\{1,2\} | (1,2)
1000000 | 1000001
0.5 | 0.50001
\frac{1}{2} | \frac{2}{1}
C | \text{(D)}
3/4 | 4/3
2\frac12 | 1
5! | 5
\text{I} | \text{II}
\text{10:15 a.m.} | \text{10:15 p.m.}
2.5 | 25
f(x)=2x | f(x)=3x
\log 2 | \ln 2
D,E | D,F
12 | 1,2
1,234 | 1, 234
"""


def pairs(lines):
    return [tuple(line.rsplit(" | ", 1)) for line in lines.strip().splitlines()]


def score(answer, reference, **options):
    (found,) = math_equal(whole_text(), **options)(completions=[answer], answer=[reference])
    return found


def test_every_answer_of_a_competition_is_right_as_its_own_boxed_answer_and_in_a_tag():
    boxed = math_equal()(completions=[rf"So the answer is $\boxed{{{answer}}}$." for answer in ANSWERS], answer=ANSWERS)
    tagged = math_equal(in_tag("answer"))(
        completions=[f"<answer>{answer}</answer>" for answer in ANSWERS], answer=ANSWERS
    )
    dollars = math_equal(whole_text())(completions=[f"${answer}$" for answer in ANSWERS], answer=ANSWERS)
    assert boxed == tagged == dollars == [1.0] * len(ANSWERS)
    assert all(math_equal().can_score(answer) for answer in ANSWERS)


def check_all_pairs(answers):
    lines = [set(line.split(" | ")) for line in ALIKE.strip().splitlines()]
    for one, other in itertools.combinations(answers, 2):
        there, back = same(value(one), value(other)), same(value(other), value(one))
        assert there == back, (one, other)
        assert not there or any({one, other} <= line for line in lines), (one, other)


def test_no_answer_is_read_as_another_one_and_equality_is_symmetric():
    for start in range(8):
        check_all_pairs(ANSWERS[start::8])


@pytest.mark.slow
def test_no_answer_is_read_as_any_other_one_and_equality_is_symmetric():
    check_all_pairs(ANSWERS)


@pytest.mark.parametrize(("one", "other"), pairs(SAME))
def test_two_writings_of_one_answer_are_the_same_both_ways(one, other):
    assert score(one, other) == score(other, one) == 1
    assert score(rf"\boxed{{{one}}}", rf"$\boxed{{{other}}}$") == 1


@pytest.mark.parametrize(("one", "other"), pairs(DIFFERENT))
def test_different_answers_score_zero_both_ways_and_are_scored(one, other):
    assert score(one, other) == score(other, one) == 0


def test_only_a_row_without_a_reference_is_not_scored():
    assert score("5", None) is score("5", "") is score("5", []) is None
    for reference in ("no mathematics at all", r"\text{Evelyn}", r"\frac{", "}{", "???", r"\unknown{x}", 5, 2.5, True):
        assert score("something else", reference) == 0 and math_equal(whole_text()).can_score(reference), reference
    assert score("2.50", 2.5) == score("5", 5) == score("true", True) == score("6", ["5", "6"]) == 1


@given(mixed)
@settings(max_examples=40, deadline=None)
def test_any_readable_text_equals_itself_and_never_raises(text):
    if text.strip():
        assert same(value(text), value(text))
    assert normal_form(normal_form(text)) is not None


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_fraction_is_the_same_in_every_notation(above, below):
    sign, size = ("-" if above < 0 else ""), abs(above)
    forms = [f"{above}/{below}", rf"\frac{{{above}}}{{{below}}}", rf"{sign}\dfrac{{{size}}}{{{below}}}"]
    whole, rest = divmod(size, below)
    forms += [rf"{sign}{whole}\frac{{{rest}}}{{{below}}}", f"{sign}{whole} {rest}/{below}"] if rest and whole else []
    for one, other in itertools.product(forms, forms):
        assert same(value(one), value(other)), (one, other)
    assert not any(same(value(form), value(f"{above + 1}/{below}")) for form in forms)


def test_per_cent_is_a_fraction_unless_asked_otherwise():
    assert score(r"20\%", "0.2") == score("20%", r"20\%") == 1 and score("20%", "20") == 0
    assert score("20%", "20", percent="number") == score("20%", "20", percent="either") == 1
    assert score("20%", "0.2", percent="number") == 0 and score("20%", r"0.2\%", percent="either") == 0
    with pytest.raises(ValueError, match="percent='x'"):
        math_equal(percent="x")


def test_the_box_is_read_before_what_is_announced_and_nothing_else_is():
    for text, right in (
        (r"The final answer is $3$.", "3"),
        (r"so \boxed{4} is the answer: $3$", "4"),
        (r"\boxed{1} no, \boxed{\frac{1}{2}}", "0.5"),
        (r"The final answer is $2m$. I hope it is correct.", "2m"),
    ):
        assert math_equal()(completions=[text], answer=[right]) == [1.0], text
    assert math_equal()(completions=["5", "", r"\boxed{"], answer=["5"] * 3) == [0.0] * 3


def test_it_works_in_threads_and_under_the_guard():
    found = []
    call = {"prompts": [""] * 2, "completions": [r"\boxed{x^2+x}", r"\boxed{1}"], "answer": ["x(x+1)", "2"]}
    thread = threading.Thread(target=lambda: found.append(guarded(math_equal())(**call)))
    thread.start()
    thread.join(120)
    assert found == [[1.0, 0.0]]


@pytest.mark.parametrize(
    "text", ["(" * 3000, r"\frac{" * 500, "{" * 1500, r"\text{" * 200, "$" * 1500, "1," * 900, "^" * 1500]
)
def test_a_hostile_text_costs_little_and_scores_zero(text):
    assert score(text, "3, 5", timeout=5) == 0
