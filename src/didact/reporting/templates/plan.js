"use strict";
// The page's sliders. What is computed here is what didact.planning computes; a test compares them.
(() => {
const data = JSON.parse(document.getElementById("plan").textContent);
const K = data.constants, RANDOM = "random", SLACK = 1e-9;
const $ = id => document.getElementById(id);

// Numbers as a person reads them, as in the rest of the page.
const grouped = (x, digits) => x.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const flops = x => !x ? "0" : x < 1e6 ? grouped(x, 0) : Number(x.toPrecision(3)).toExponential().replace("e+", "e");
const percent = x => {
  const v = 100 * x;
  if (v === 0 || v === 100) return v + "%";
  if (Math.abs(v) < 0.005) return v > 0 ? "<0.01%" : ">-0.01%";
  const text = v.toFixed(Math.abs(v) < 1 ? 2 : 1);
  return (text === "100.0" ? ">99.9" : text) + "%";
};
const signed = x => {
  const v = 100 * x;
  if (Math.abs(v) < 0.005) return "±0%";
  return (v > 0 ? "+" : "−") + Math.abs(v).toFixed(Math.abs(v) < 1 ? 2 : 1) + "%";
};
const three = x => String(Number(x.toPrecision(3)));
const hours = h => h >= 100 ? grouped(h, 0) + " h" : h >= 1 ? three(h) + " h"
  : h >= 1 / 60 ? three(60 * h) + " min" : h ? Number((3600 * h).toPrecision(2)) + " s" : "0 s";
const params = n => {
  const [size, unit] = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]].find(([s]) => n >= s * 0.9995) || [1, ""];
  return three(n / size) + unit;
};
const ratio = x => grouped(x, x < 10 ? 2 : x < 100 ? 1 : 0);
const by = (method, judge) => judge === null ? method : method + " by " + judge;
const named = r => by(r.method, r.judge);

// What a method is worth.
const value = (rate, fraction) => fraction >= 1 ? 1 : -Math.expm1(-rate * fraction);
const quantile = (sorted, q) => {
  const at = (sorted.length - 1) * q, low = Math.floor(at), high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
};
const interval = draws => {
  const told = draws.filter(Number.isFinite).sort((a, b) => a - b), tail = (1 - K.level) / 2;
  return [quantile(told, tail), quantile(told, 1 - tail)];
};
const ratesOf = method => data.draws[method] || data.draws[RANDOM];
const drawn = (method, fraction) => ratesOf(method).map(rate => rate === null ? NaN : value(rate, fraction));
const apart = (a, b) => a.map((x, i) => x - b[i]);

// The rows of a plan.
const termsOf = state => {
  const budget = data.budget * state.budget, whole = data.whole * state.size;
  const atBudget = Math.min(budget / whole, 1);
  return {
    budget, whole, beta: budget / whole, tasks: state.tasks, params: data.params * state.size, size: state.size,
    point: data.known ? value(data.rates[RANDOM], atBudget) : null,
    random: data.known ? drawn(RANDOM, atBudget) : null,
  };
};
const selectionOf = (terms, s) => s.flops / terms.tasks * (s.grows ? terms.size : 1);
const paramsOf = (terms, s) => s.params === null ? null : s.params * (s.grows ? terms.size : 1);
// The trained model under another size goes by that size.
const judgeOf = (terms, s) => s.grows && terms.size !== 1 ? params(paramsOf(terms, s)) : s.selector;
const extrapolated = (terms, s) => {
  const measured = data.measured[s.method], own = paramsOf(terms, s);
  return measured !== undefined && own !== null && own < K.smaller * measured[0];
};
const fractionsOf = (terms, s) => {
  const left = (terms.budget - selectionOf(terms, s)) / terms.whole;
  const all = s.method === RANDOM ? [...K.fractions, 1, Math.min(left, K.passes)]
    : [...K.fractions, left > 0 && left < 1 ? left : K.fractions[0]];
  return [...new Set(all)].sort((a, b) => a - b).filter(f => f >= data.least * (1 - SLACK));
};
const billed = (terms, s, fraction) => {
  const selection = selectionOf(terms, s), training = fraction * terms.whole;
  return {
    index: s.index, method: s.method, selector: s.selector, judge: judgeOf(terms, s), params: paramsOf(terms, s), fraction, selection, training,
    cpu: s.cpu / terms.tasks, hours: (selection + training) / data.rate / 3600,
    feasible: selection + training <= terms.budget * (1 + SLACK), far: fraction < 1 && extrapolated(terms, s),
    predicted: null, utility: null, low: null, high: null, beats: null,
  };
};
const rowOf = (terms, s, fraction) => {
  const row = billed(terms, s, fraction);
  if (!data.known || fraction > 1 || !(s.method in data.rates || fraction >= 1)) return row;
  row.predicted = value(data.rates[s.method] || 0, fraction);
  if (!row.feasible) return row;
  const differences = apart(drawn(s.method, fraction), terms.random);
  const told = differences.filter(Number.isFinite);
  row.utility = row.predicted - terms.point;
  [row.low, row.high] = interval(differences);
  row.beats = told.reduce((sum, x) => sum + (Math.sign(x) + 1) / 2, 0) / told.length;
  return row;
};

// Which row to take; `better` says whether its first argument is to be preferred.
const lexical = (a, b) => { const i = a.findIndex((x, j) => x !== b[j]); return i < 0 ? 0 : a[i] - b[i]; };
const best = (rows, key) => rows.reduce((found, row) => found === null || lexical(key(row), key(found)) > 0 ? row : found, null);
const recommend = (terms, rows) => {
  if (terms.beta >= 1) return [rows.find(r => r.method === RANDOM && r.fraction === 1), null];
  const measured = rows.filter(r => r.low !== null && !r.far);
  if (!measured.length) return [null, null];
  let first = best(measured, r => [r.low, -r.selection]);
  if (first.low <= 0) {
    first = best(measured.filter(r => r.method === RANDOM), r => [r.fraction]);
  } else {
    const top = drawn(first.method, first.fraction), kept = first;
    const alike = measured.filter(r => r.low > 0 && (r === kept || interval(apart(top, drawn(r.method, r.fraction)))[0] <= 0));
    first = best(alike, r => [-r.selection, -r.cpu, r.low]);
  }
  const second = from => best(from.filter(r => r.utility !== null && r.method !== first.method), r => [r.utility, -r.selection]);
  return [first, second(measured) || second(rows)];
};
const breakEven = (terms, row) => {
  const whole = row.selection * terms.tasks, own = data.rates[row.method], random = data.rates[RANDOM];
  if (!whole || own === undefined || own <= random) return [null, null];
  const most = Math.min(terms.budget, terms.whole) * (1 - random / own);
  return [row.params ? terms.params / row.params * row.selection / most : null, Math.ceil(whole / most)];
};

// The pilot that would settle it.
const seedsFor = wanted => {
  const found = data.seeds.find(([, smallest]) => smallest <= wanted);
  return found === undefined ? null : found[0];
};
const pilotOf = (terms, first, second) => {
  const known = first.predicted !== null && second.predicted !== null;
  const wanted = known ? Math.abs(first.predicted - second.predicted) : K.wanted;
  const seeds = wanted > 0 ? seedsFor(wanted / data.noise) : null;
  if (seeds === null) return null;
  const trained = seeds * 1.5 * (first.fraction + second.fraction) + K.ends;
  const scoring = (first.selection + second.selection) * terms.tasks;
  let reached = 1, spent = second.fraction;
  if (known) {
    const [good, other] = first.predicted >= second.predicted ? [first, second] : [second, first];
    spent = other.fraction;
    reached = Math.min(1, data.rates[good.method] / data.rates[other.method] * good.fraction);
  }
  const gains = Math.max(reached - spent, 0) * terms.whole;
  const found = K.pilotParams.map(size => {
    const cost = scoring + trained * terms.whole * Math.min(terms.params, size) / terms.params;
    return { seeds, flops: cost, gains, pays: cost <= Math.min(gains, terms.budget) };
  });
  return found.find(p => p.pays) || found[found.length - 1];
};

// The verdict and its reason in a line.
const worth = r => signed(r.utility) + " of the gap more than random samples (" + signed(r.low) + " to " + signed(r.high) + "), better at all with a chance of " + percent(r.beats);
const wouldTell = p => p === null ? data.seeds[data.seeds.length - 1][0] + " seeds an arm would not tell: the difference is small"
  : p.pays ? "a pilot of " + flops(p.flops) + " FLOPs (" + hours(p.flops / data.rate / 3600) + ", " + p.seeds + " seeds an arm) would tell"
  : "finding out costs more than it can gain";
const judged = (terms, rows, first, second) => {
  if (terms.beta >= 1) return ["all", "One pass over the whole pool takes " + percent(1 / terms.beta) + " of the budget, and after it every ranking is the same set: scoring can only cost."];
  if (first === null) {
    const tried = best(rows.filter(r => (r.method === "bm25" || r.method === "embedding") && r.feasible), r => [r.fraction, r.method === "embedding" ? 1 : 0]);
    const none = "Nothing that was measured is like this, so there is no prediction";
    if (tried === null) return ["unknown", none + "."];
    const random = best(rows.filter(r => r.method === RANDOM && r.feasible), r => [r.fraction]);
    return ["unknown", none + "; " + wouldTell(pilotOf(terms, tried, random)) + "."];
  }
  const settle = second === null ? null : pilotOf(terms, first, second);
  if (first.method !== RANDOM) return ["select", "After paying for its scoring it is worth " + worth(first) + "." + (second ? " Next comes " + named(second) + "; " + wouldTell(settle) + "." : "")];
  if (second === null || second.utility === null || second.utility <= 0) return ["random", "No method is expected to earn back its scoring."];
  return [settle && settle.pays ? "unknown" : "random", named(second) + " may be better: " + worth(second) + "; " + wouldTell(settle) + "."];
};
const answer = state => {
  const terms = termsOf(state);
  if (terms.beta < data.least) return { terms, code: null, first: null, second: null, rows: [], reason: "The budget does not pay for one optimizer step." };
  const asked = data.scoring.filter(s => data.known ? s.method in data.rates : true);
  const rows = asked.flatMap(s => fractionsOf(terms, s).map(f => rowOf(terms, s, f)));
  const [first, second] = recommend(terms, rows);
  const [code, reason] = judged(terms, rows, first, second);
  return { terms, rows, first, second, code, reason };
};

// The page.
const HEADS = { random: "Take random samples", all: "Train on all of it", unknown: "Nobody can know beforehand" };
const text = (place, what) => { if (place) place.textContent = what; };
const showOutcome = found => {
  const { terms, first, second, code, reason } = found;
  const challenger = [first, second].find(r => r && r.method !== RANDOM);
  text($("outcome-head"), code === null ? "Not one step" : code === "select" ? "Select by " + named(first) : HEADS[code]);
  $("outcome-head").className = "code " + (code || "");
  text($("outcome-reason"), reason);
  const more = [];
  if (first && code !== "all") more.push((code === "unknown" ? "Safe: " : "Take ") + named(first) + " for " + percent(first.fraction) + " of a full pass.");
  if (challenger) {
    const [sizes, tasks] = breakEven(terms, challenger);
    if (sizes !== null) more.push(named(challenger) + " pays from a size ratio of " + ratio(sizes) + " (here " + ratio(terms.params / challenger.params) + ").");
    if (tasks !== null) more.push("It pays from " + grouped(tasks, 0) + (tasks === 1 ? " task" : " tasks") + " that share the scoring.");
  }
  if (data.known && (terms.params < data.trained[0] || terms.params > data.trained[1])) more.push("The models that predictions rest on have other sizes: " + params(data.trained[0]) + " to " + params(data.trained[1]) + ".");
  text($("outcome-more"), more.join(" "));
  Object.assign($("outcome").dataset, {
    code: code || "", method: first ? first.method : "", selector: first && first.selector !== null ? first.selector : "",
    fraction: first ? first.fraction : "", low: first && first.low !== null ? first.low : "", second: second ? by(second.method, second.selector) : "",
  });
};
const showBill = ({ terms, first }) => {
  const bars = data.scoring.map(s => {
    const rows = fractionsOf(terms, s).map(f => billed(terms, s, f));
    const paid = rows.filter(r => r.feasible && r.fraction <= 1);
    return paid.length ? paid[paid.length - 1] : rows[0];
  });
  const longest = Math.max(...bars.filter(r => r && r.feasible).map(r => r.selection + r.training));
  const scale = Number.isFinite(longest) && longest > 0 ? longest : terms.budget;
  text($("longest"), flops(scale));
  text($("billed"), flops(terms.budget));
  for (const r of bars.filter(Boolean)) {
    const line = document.querySelector('.bill tr[data-index="' + r.index + '"]'), part = name => line.querySelector("." + name);
    line.className = r.feasible ? "" : "dear";
    if (first && r.feasible && r.index === first.index) line.className = "taken";
    part("part-score").style.width = 100 * Math.min(r.selection / scale, 1) + "%";
    part("part-train").style.width = r.feasible ? 100 * r.training / scale + "%" : "0%";
    if (r.judge !== null) text(line.querySelector("th .user"), r.judge);
    text(part("reads"), r.feasible ? "reads " + percent(r.fraction) + " of the pool"
      : "over the budget: needs " + flops(r.selection + r.training) + " for " + percent(r.fraction) + " of the pool");
    text(part("scoring"), flops(r.selection));
    text(part("training"), r.feasible ? flops(r.training) : "–");
    text(part("hours"), hours(r.hours));
    text(part("cpu"), "+ " + hours(r.cpu / 3600) + " CPU");
  }
};

// The frontier, as in the page without scripts.
const H = K.height;
const make = (name, attributes, content) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, what] of Object.entries(attributes)) made.setAttribute(key, what);
  if (content !== undefined) made.textContent = content;
  return made;
};
const titled = (made, said) => { made.append(make("title", {}, said)); return made; };
const across = x => (100 * x).toFixed(3) + "%";
const logTicks = (low, high) => {
  const powers = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) powers.push(p);
  const within = t => t >= low && t <= high, tens = powers.map(p => Math.pow(10, p)).filter(within);
  const ticks = tens.length >= 3 ? tens : powers.flatMap(p => [1, 2, 5].map(m => m * Math.pow(10, p))).filter(within);
  return ticks.filter((_, i) => i % Math.max(1, Math.ceil(ticks.length / 6)) === 0);
};
const curvesOf = ({ terms, first }) => Object.keys(data.rates).flatMap(method => {
  const found = data.scoring.filter(s => s.method === method);
  const chosen = best(found, s => [first && s.index === first.index ? 1 : 0, extrapolated(terms, s) ? 0 : 1, -s.flops * (s.grows ? terms.size : 1)]);
  return chosen === null ? [] : [{
    scoring: chosen, method, name: by(method, judgeOf(terms, chosen)), selection: selectionOf(terms, chosen), rate: data.rates[method],
    band: method === RANDOM || (first && first.method === method) ? interval(ratesOf(method).map(x => x === null ? NaN : x)) : null,
  }];
});
const frontierOf = rows => {
  const total = r => r.selection + r.training, kept = [];
  for (const r of rows.filter(r => r.feasible && r.predicted !== null).sort((a, b) => total(a) - total(b) || b.predicted - a.predicted)) {
    if (!kept.length || r.predicted > kept[kept.length - 1].predicted) kept.push(r);
  }
  return kept;
};
const showFrontier = found => {
  const chart = document.querySelector("svg.frontier");
  if (!chart) return;
  const { terms, rows, first } = found, { budget, whole } = terms, curves = curvesOf(found);
  const far = Math.min(Math.max(...curves.map(c => c.selection)) + whole, K.farthest * Math.max(budget, whole));
  const low = K.cheapest * Math.min(budget, whole), high = 1.1 * Math.max(1.3 * budget, whole, far);
  const place = x => Math.log(x / low) / Math.log(high / low), at = place(budget), y = v => H * (1 - v);
  const pen = (points, open) => points.map(([a, b], i) => (i || !open ? "L" : "M") + (1000 * a).toFixed(2) + " " + b.toFixed(2)).join("");
  const sampled = c => {
    const start = Math.max(low - c.selection, 1e-3 * whole) / whole, stop = Math.min((high - c.selection) / whole, 1);
    if (stop <= start) return [];
    const out = Array.from({ length: K.points }, (_, i) => i === K.points - 1 ? stop : start * Math.pow(stop / start, i / (K.points - 1)));
    return [...out, Math.min(Math.max((budget - c.selection) / whole, start), stop)].sort((a, b) => a - b);
  };
  const layer = make("svg", { width: "100%", height: H, viewBox: "0 0 1000 " + H, preserveAspectRatio: "none", overflow: "visible" });
  const line = (c, kind, points) => layer.append(titled(make("path", { class: "curve " + c.color + kind, d: pen(points, true) }), c.name));
  for (const c of curves) {
    const item = [...document.querySelectorAll("[data-curve]")].find(e => e.dataset.curve === c.method);
    c.color = item.querySelector("line").classList[1];
    text(item.querySelector(".user"), c.name);
    c.at = sampled(c).map(f => [place(c.selection + f * whole), f]);
    if (c.band && c.at.length) {
      const [lower, upper] = c.band.map(rate => c.at.map(([x, f]) => [x, y(value(rate, f))]));
      layer.append(make("path", { class: "area " + c.color, d: pen(upper, true) + pen(lower.reverse(), false) + "Z" }));
    }
  }
  for (const c of curves) {
    const points = c.at.map(([x, f]) => [x, y(value(c.rate, f))]);
    line(c, "", points.filter(([x]) => x <= at + SLACK));
    line(c, " beyond", points.filter(([x]) => x >= at - SLACK));
  }
  const out = [];
  for (let i = 0; i <= 5; i++) {
    out.push(make("line", { class: "grid", x1: 0, x2: "100%", y1: y(i / 5), y2: y(i / 5) }));
    out.push(make("text", { class: "tick", x: -8, y: y(i / 5) + 4, "text-anchor": "end" }, 20 * i + "%"));
  }
  out.push(make("rect", { class: "over", x: across(at), y: 0, width: across(1 - at), height: H }), layer);
  out.push(make("line", { class: "cut", x1: across(at), x2: across(at), y1: -6, y2: H }));
  const right = at < 0.6;
  out.push(make("text", { class: "cut", x: across(at), y: H - 10, dx: right ? 7 : -7, "text-anchor": right ? "start" : "end" }, "your budget"));
  for (const r of frontierOf(rows)) {
    out.push(titled(make("circle", { class: r.far ? "front far" : "front", cx: across(place(r.selection + r.training)), cy: y(r.predicted), r: 4 }),
      named(r) + ", " + percent(r.fraction) + " of a full pass: " + percent(r.predicted)));
  }
  if (first && first.predicted !== null) out.push(make("circle", { class: "taken", cx: across(place(first.selection + first.training)), cy: y(first.predicted), r: 8 }));
  out.push(make("line", { class: "axis", x1: 0, x2: "100%", y1: H, y2: H }));
  for (const t of logTicks(low, high)) {
    const x = place(t);
    out.push(make("line", { class: "axis", x1: across(x), x2: across(x), y1: H, y2: H + 5 }));
    out.push(make("text", { class: "tick", x: across(x), y: H + 19, "text-anchor": x < 0.03 ? "start" : x > 0.93 ? "end" : "middle" }, flops(t)));
  }
  out.push(...chart.querySelectorAll(".name"));
  chart.replaceChildren(...out);
  const says = curves.map(c => c.name + " " + (budget > c.selection ? percent(value(c.rate, (budget - c.selection) / whole)) : "over the budget"));
  chart.setAttribute("aria-label", "Value against FLOPs. At the budget of " + flops(budget) + ": " + says.join(", ") + ".");
};

// The sliders: powers of ten, powers of two, round numbers.
const tasks = [...new Set([1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, data.tasks])].sort((a, b) => a - b);
const sliders = ["slide-budget", "slide-size", "slide-tasks"].map($);
const asked = [0, 0, tasks.indexOf(data.tasks)];
sliders[2].max = tasks.length - 1;
const say = (slider, name, said) => {
  text($(name), said);
  slider.setAttribute("aria-valuetext", said);
};
const update = () => {
  const [b, s, t] = sliders.map(slider => Number(slider.value));
  const state = { budget: Math.pow(10, b / 100), size: Math.pow(2, s / 8), tasks: tasks[t] };
  const found = answer(state), { terms } = found;
  say(sliders[0], "said-budget", flops(terms.budget) + " FLOPs, " + hours(terms.budget / data.rate / 3600));
  say(sliders[1], "said-size", params(terms.params));
  say(sliders[2], "said-tasks", grouped(terms.tasks, 0));
  const moved = [b, s, t].some((v, i) => v !== asked[i]);
  for (const tag of document.querySelectorAll(".moved")) tag.hidden = !moved;
  $("reset").disabled = !moved;
  showOutcome(found);
  if (moved || update.drawn) { showBill(found); showFrontier(found); update.drawn = true; }
};
const reset = () => { sliders.forEach((slider, i) => { slider.value = asked[i]; }); update(); };
let waiting = false;
for (const slider of sliders) {
  slider.addEventListener("change", update);
  slider.addEventListener("input", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; update(); });
  });
}
$("reset").addEventListener("click", reset);
$("sliders").hidden = false;
reset();
})();
