// A completion as tokens, with colours, turns and hits of the search; or as plain text.
const many = 800; // tokens of a completion shown at first
const unfolded = new WeakSet();

// [{from, to, own}]: stretches that the policy wrote and stretches that it read (tools, environments).
function turnsOf(row) {
  const turns = [];
  row.learns.forEach((own, t) => {
    const last = turns[turns.length - 1];
    if (last && last.own === Boolean(own)) last.to = t + 1; else turns.push({ from: t, to: t + 1, own: Boolean(own) });
  });
  return row.learns.some(Boolean) ? turns : [];
}

// What a turn is called, what it earned where that was recorded, and the sum of its credit in a strategy's column.
function turnName(turns, place, row, column) {
  const { from, to, own } = turns[place];
  if (!own) return "not the model's: a tool or environment";
  // What is a millionth of the completion's largest number is left over from rounding.
  const sum = (value) => {
    let total = 0, largest = 0;
    for (let t = 0; t < row.tokens.length; t++) { largest = Math.max(largest, Math.abs(value(t) || 0)); if (t >= from && t < to) total += value(t) ?? NaN; }
    return Number.isNaN(total) ? "none" : show(short(Math.abs(total) < 1e-6 * largest ? 0 : total), true);
  };
  const facts = [`model, turn ${turns.slice(0, place + 1).filter((turn) => turn.own).length}`];
  if (row.turn) facts.push(`earned ${sum((t) => row.turn[t])}`);
  if (column !== undefined) facts.push(`credit ${sum((t) => valueAt(row, column, t, "Aw"))}`);
  return facts.join(", ");
}

// Fills `line`; calls `point(t, event)` when a token is pointed at. Returns its spans.
function tokenSpans(line, row, { column, quantity, limit, point, again }) {
  const spans = [], turns = turnsOf(row), starts = new Map(turns.length > 1 ? turns.map((turn, i) => [turn.from, i]) : []);
  const hits = hitTokens(row), length = unfolded.has(row) ? row.tokens.length : Math.min(many, row.tokens.length);
  for (let t = 0; t < length; t++) {
    if (starts.has(t)) line.append(element("span", "turn", turnName(turns, starts.get(t), row, column)));
    const span = element("span", "t"), parts = row.tokens[t].split("\n");
    parts.forEach((part, i) => {
      if (i) span.append(element("span", "mark", "\u23ce"), "\n");
      span.append(part);
    });
    if (row.tokens[t] === "") span.append(element("span", "mark", "\u2205"));
    if (!row.learns[t]) span.classList.add("off");
    else {
      const painted = paint(valueAt(row, column, t, quantity), quantity, limit);
      if (painted) {
        if (painted.name) span.classList.add(painted.name);
        span.style.backgroundColor = painted.colour;
      }
    }
    if (hits.has(t)) span.classList.add("hit");
    spans.push(span);
    line.append(span, element("wbr"));
  }
  line.addEventListener("pointerover", (event) => { const t = spans.indexOf(event.target.closest(".t")); if (t >= 0 && event.pointerType === "mouse") point(t); });
  line.addEventListener("click", (event) => { const t = spans.indexOf(event.target.closest(".t")); if (t >= 0) point(t); });
  if (length < row.tokens.length) line.append(button(`show ${row.tokens.length - length} more tokens`, () => { unfolded.add(row); again(); }));
  return spans;
}

// ---- as a conversation --------------------------------------------------------------------------------------------
const kinds = ["system", "user", "assistant", "tool"];
function card(role, body, folded, kind = kinds.find((each) => role.startsWith(each))) {
  const box = element("details", "card");
  if (kind) box.classList.add(kind);
  box.open = !folded;
  box.append(element("summary", "", role), body);
  return box;
}

function messageBody(message) {
  const body = element("div", "said");
  if (message.thinking) body.append(marked(message.thinking, "thinking"));
  if (message.text || !message.calls) body.append(marked(message.text));
  for (const call of message.calls || []) {
    const line = element("div", "call");
    line.append(element("b", "", call.name), marked(pretty(call.arguments)));
    body.append(line);
  }
  return body;
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 1); } catch { return text; }
}

// Text that a policy wrote, with its thinking and its calls of tools set apart where they are written in the usual tags.
function writtenBody(text) {
  const body = element("div", "said");
  const parts = text.split(/(<think>[^]*?(?:<\/think>|$)|<tool_call>[^]*?(?:<\/tool_call>|$))/);
  for (const part of parts) if (part) body.append(marked(part, part.startsWith("<think>") ? "thinking" : part.startsWith("<tool_call>") ? "call" : ""));
  return body;
}

function conversation(group) {
  const box = element("div", "chat");
  if (!group.messages) {
    box.append(marked(group.prompt || "(empty prompt)", "prompt"));
    return box;
  }
  for (const message of group.messages) box.append(card(message.role, messageBody(message), message.role === "system" && group.messages.length > 1));
  const raw = card("the prompt as the model read it", marked(group.prompt, "raw"), true);
  raw.classList.add("quiet");
  box.append(raw);
  return box;
}

function asText(row) {
  const turns = turnsOf(row), box = element("div", "chat");
  const text = (turn) => row.tokens.slice(turn.from, turn.to).join("");
  if (turns.length < 2) box.append(writtenBody(row.tokens.join("")));
  else turns.forEach((turn, i) => box.append(card(turnName(turns, i, row), turn.own ? writtenBody(text(turn)) : marked(text(turn), "said"), false, turn.own ? "assistant" : "tool")));
  return box;
}

// The columns of the data set: what looks like the reference answer comes first.
function columnsOf(group) {
  const list = element("dl", "facts");
  list.append(element("div", "of", "data set:"));
  group.columns.forEach(([name, value]) => {
    const item = element("div");
    item.append(element("dt", "", name), element("dd"));
    item.lastChild.append(marked(value));
    if (value.length > 160 || value.includes("\n")) item.classList.add("long");
    list.append(item);
  });
  return list;
}

