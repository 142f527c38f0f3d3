// What a token can be coloured by, in words, and the scale that fits each.
// own: a column for each strategy; others are of the completion, so one column says all. two: a scale with two sides of zero.
const quantities = {
  Aw: { label: "credit A\u00b7w", own: true, two: true, plus: "the update makes the token more likely", minus: "less likely" },
  A: { label: "advantage A", own: true, two: true, plus: "better than expected", minus: "worse" },
  w: { label: "weight w", own: true, zero: true, words: "the token counts more in the loss" },
  entropy: { label: "entropy", zero: true, words: "the policy was less sure before it (nats)" },
  logp: { label: "log-probability", zero: true, words: "less likely under the policy (nats)" },
  gap: { label: "log-prob now \u2212 when sampled", two: true, plus: "likelier now than when it was sampled", minus: "less likely now" },
  ref: { label: "log-prob \u2212 reference's", two: true, plus: "likelier than under the reference", minus: "less likely" },
  value: { label: "critic's value", words: "the critic expects more from here on" },
  span: { label: "reward earned here", two: true, plus: "reward earned at the token", minus: "lost" },
  turn: { label: "reward of the turn", two: true, plus: "earned in the turn, at its last token", minus: "lost" },
  kl: { label: "KL penalty", two: true, plus: "reward of the KL term", minus: "penalty" },
  text: { label: "nothing: text", plain: true },
};

function present(key) {
  if (["Aw", "A", "w", "text"].includes(key)) return true;
  return data.runs.some((run) => run.steps.some((step) => (step.limits[key] || []).some((limit) => limit.least || limit.most)));
}

function valueAt(row, column, t, quantity) {
  if (quantity === "Aw") {
    const a = at(row.A[column], t), w = at(row.w[column], t);
    return a === null || w === null ? null : a * w;
  }
  if (quantity === "A" || quantity === "w") return at(row[quantity][column], t);
  return row[quantity] ? row[quantity][t] : null;
}

// {low, high, least, most} of a column, by the scale that is chosen.
function limitOf(run, step, column, quantity = state.quantity, scale = state.scale) {
  const own = quantities[quantity].own, name = step.strategies[column];
  const of = (each, i) => (each.limits[quantity] || [])[own ? i : 0];
  let limits = [of(step, column)];
  if (own && scale === "all") limits = visibleColumns(step).map((i) => of(step, i));
  if (scale === "steps") limits = data.runs[run].steps.map((each) => of(each, own ? each.strategies.indexOf(name) : 0));
  return joined(limits);
}

function joined(limits) {
  const known = limits.filter(Boolean), ends = (key) => known.map((limit) => limit[key]);
  if (!known.length) return { low: 0, high: 0, least: 0, most: 0 };
  return { low: Math.min(...ends("low")), high: Math.max(...ends("high")), least: Math.min(...ends("least")), most: Math.max(...ends("most")) };
}

// Ends of the scale as drawn: around zero, from zero to the far end, or from the least to the most.
function ends(quantity, limit) {
  const { two, zero } = quantities[quantity];
  const far = Math.max(Math.abs(limit.low), Math.abs(limit.high));
  if (two) return [-far, far];
  if (zero) return quantity === "logp" ? [0, limit.low] : [0, limit.high];
  return [limit.low, limit.high];
}

// Blue for more, orange for less, nothing for nothing: apart for every common colour blindness, and by the underline.
// The ends leave text readable on a light ground and on a dark one (contrast above 4.5).
function paint(value, quantity, limit) {
  if (value === null || value === undefined) return null;
  const [from, to] = ends(quantity, limit);
  if (from === to) return null;
  if (quantities[quantity].two) {
    if (Math.abs(value) < 1e-6 * to) return null; // left over from rounding
    return { name: value > 0 ? "plus" : "minus", colour: `rgb(var(--${value > 0 ? "plus" : "minus"}) / ${Math.min(1, Math.abs(value) / to).toFixed(3)})` };
  }
  const part = Math.max(0, Math.min(1, (value - from) / (to - from)));
  return { name: "", colour: `rgb(var(--one) / ${part.toFixed(3)})` };
}

function ramp(quantity, limit) {
  const wrap = element("span", "scale"), bar = element("span", "ramp");
  const [from, to] = ends(quantity, limit);
  for (let i = 0; i <= 8; i++) {
    const patch = element("i"), painted = from === to ? null : paint(from + ((to - from) * i) / 8, quantity, limit);
    if (painted) patch.style.backgroundColor = painted.colour;
    bar.append(patch);
  }
  const sign = quantities[quantity].two;
  wrap.append(element("span", "", show(short(from), sign)), bar, element("span", "", show(short(to), sign)));
  const beyond = Math.max(Math.abs(limit.least), Math.abs(limit.most));
  if (beyond > 1.01 * Math.max(Math.abs(from), Math.abs(to))) wrap.append(element("span", "", `(a few to ${show(short(beyond))})`));
  return wrap;
}

function legend(quantity) {
  const line = element("p", "legend"), { two, plus, minus, words, plain } = quantities[quantity];
  const item = (name, text) => {
    const patch = element("span", `t sample ${name}`, "\u2002a\u2002");
    if (name !== "off" && name !== "none") patch.style.backgroundColor = `rgb(var(--${name || "one"}) / 0.8)`;
    const wrap = element("span", "item");
    wrap.append(patch, " ", text);
    line.append(wrap);
  };
  if (two) {
    item("plus", `blue, solid line: ${plus}`);
    item("minus", `orange, dotted line: ${minus}`);
    item("none", quantity === "Aw" ? "no colour: no credit, the update leaves it alone" : "no colour: zero");
  } else if (!plain) item("", `darker: ${words}`);
  if (data.runs.some((run) => run.steps.some((step) => step.summary.masked))) item("off", "grey: not learned from (text of tools, rows that are cut and masked)");
  return line;
}

