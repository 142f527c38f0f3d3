// Curves and points on a canvas, with the numbers under the pointer in words. No library, no picture from elsewhere.
const strokes = ["--line1", "--line2", "--line3", "--line4", "--line5"];
const dashes = [[], [6, 3], [2, 3], [9, 3, 2, 3], [1, 2]];
const charts = new Set();

function paintColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// series: [{name, points: [[x, y or null]], dots?, flagged?: [bool], open?: (i) => void}]
function chart(series, { name, x, y = "", steps = false, zero = false, low }) {
  const box = element("figure", "curve"), canvas = element("canvas"), words = element("figcaption", "note");
  const all = series.flatMap((each) => each.points).filter((point) => point[1] !== null);
  const range = (k) => [Math.min(...all.map((point) => point[k])), Math.max(...all.map((point) => point[k]))];
  const [x0, x1] = all.length ? range(0) : [0, 1];
  let [y0, y1] = all.length ? range(1) : [0, 1];
  if (zero) [y0, y1] = [Math.min(0, y0), Math.max(0, y1)];
  if (low !== undefined) y0 = Math.min(low, y0);
  if (y0 === y1) [y0, y1] = [y0 - (Math.abs(y0) || 1) / 2, y1 + (Math.abs(y1) || 1) / 2];
  const title = element("div", "charthead");
  title.append(element("b", "", name));
  series.forEach((each, i) => { if (series.length > 1) { const key = element("span", "key", each.name); key.style.borderBottom = `3px ${["solid", "dashed", "dotted"][i % 3]} var(${strokes[i % strokes.length]})`; title.append(key); } });
  const last = series.map((each) => each.points.filter((point) => point[1] !== null).at(-1)).filter(Boolean);
  const rest = all.length ? (series.some((each) => each.dots) ? `${all.length} completions` : `${show(short(all[0][1]))} to ${last.map((point) => show(short(point[1]))).join(", ")}`) : "nothing recorded";
  words.textContent = rest;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${name}: ${rest}`);
  box.append(title, canvas, words);
  const left = 60, right = 10, top = 8, foot = 20;
  let width = 0, height = 0;
  const px = (value) => left + ((value - x0) / (x1 - x0 || 1)) * (width - left - right);
  const py = (value) => top + (1 - (value - y0) / (y1 - y0)) * (height - top - foot);
  const paintChart = () => {
    const shape = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    if (!shape.width) return;
    [width, height] = [shape.width, shape.height];
    [canvas.width, canvas.height] = [width * ratio, height * ratio];
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = paintColour("--grey");
    pen.strokeStyle = paintColour("--line");
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const value of y0 < 0 && y1 > 0 ? [y0, 0, y1] : [y0, y1]) {
      pen.beginPath();
      pen.moveTo(left, py(value));
      pen.lineTo(width - right, py(value));
      pen.stroke();
      pen.fillText(show(short(value)), left - 6, py(value));
    }
    pen.textBaseline = "alphabetic";
    pen.textAlign = "left";
    pen.fillText(`${x} ${show(short(x0))}`, left, height - 4);
    pen.textAlign = "right";
    pen.fillText(show(short(x1)), width - right, height - 4);
    series.forEach((each, i) => drawSeries(pen, each, i));
  };
  function drawSeries(pen, each, i) {
    pen.strokeStyle = pen.fillStyle = paintColour(strokes[i % strokes.length]);
    pen.setLineDash(each.dots ? [] : dashes[i % dashes.length]);
    pen.lineWidth = 1.6;
    if (each.dots) {
      each.points.forEach(([a, b], k) => {
        if (b === null) return;
        const flagged = each.flagged && each.flagged[k];
        pen.strokeStyle = pen.fillStyle = paintColour(flagged ? "--minus-line" : strokes[0]);
        pen.globalAlpha = 0.65;
        pen.beginPath();
        pen.arc(px(a), py(b), 4, 0, 7);
        if (flagged) pen.stroke(); else pen.fill();
        pen.globalAlpha = 1;
      });
      return;
    }
    pen.beginPath();
    let before = null;
    for (const [a, b] of each.points) {
      if (b === null) { if (steps) before = null; continue; }
      if (before === null) pen.moveTo(px(a), py(b));
      else { if (steps) pen.lineTo(px(a), py(before)); pen.lineTo(px(a), py(b)); }
      if (before === null) pen.lineTo(px(a) + 1, py(b));
      before = b;
    }
    pen.stroke();
    pen.setLineDash([]);
  }
  const nearest = (event) => {
    const shape = canvas.getBoundingClientRect(), mx = event.clientX - shape.left, my = event.clientY - shape.top;
    let best = null, far = Infinity;
    series.forEach((each, i) => each.points.forEach(([a, b], k) => {
      if (b === null) return;
      const distance = each.dots ? Math.hypot(px(a) - mx, py(b) - my) : Math.abs(px(a) - mx) + Math.abs(py(b) - my) / 50;
      if (distance < far) [far, best] = [distance, { each, i, k, a, b }];
    }));
    return best;
  };
  canvas.addEventListener("pointermove", (event) => {
    const best = nearest(event);
    if (!best) return;
    const { each, k, a, b } = best;
    words.textContent = each.dots ? `${x} ${show(a)}, ${y} ${show(b)}${each.flagged && each.flagged[k] ? ", cut" : ""}; click to read it`
      : `${x} ${show(a)}: ${series.map((other) => { const point = other.points.find((p) => p[0] === a && p[1] !== null); return point ? `${series.length > 1 ? `${other.name} ` : ""}${show(short(point[1]))}` : null; }).filter(Boolean).join(", ")}`;
  });
  canvas.addEventListener("pointerleave", () => { words.textContent = rest; });
  canvas.addEventListener("click", (event) => { const best = nearest(event); if (best && best.each.open) best.each.open(best.k); });
  charts.add({ canvas, paintChart });
  new ResizeObserver(paintChart).observe(canvas);
  return box;
}

function repaint() {
  for (const each of charts) if (each.canvas.isConnected) each.paintChart(); else charts.delete(each);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

