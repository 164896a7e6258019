"use strict";
// What didact.planning computes, for the sliders of a plan's page; a test compares the two.

const data = JSON.parse(document.getElementById("plan").textContent);
const K = data.constants,
  RANDOM = "random",
  SLACK = 1e-9;
const $ = id => document.getElementById(id);

// Numbers as a person reads them, as in the rest of the page.
const grouped = (x, digits) =>
  x.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const flops = x =>
  !x ? "0" : x < 1e6 ? grouped(x, 0) : Number(x.toPrecision(3)).toExponential().replace("e+", "e");
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
const hours = h =>
  h >= 100
    ? grouped(h, 0) + " h"
    : h >= 1
      ? three(h) + " h"
      : h >= 1 / 60
        ? three(60 * h) + " min"
        : h
          ? Number((3600 * h).toPrecision(2)) + " s"
          : "0 s";
const params = n => {
  const [size, unit] = [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ].find(([s]) => n >= s * 0.9995) || [1, ""];
  return three(n / size) + unit;
};
const ratio = x => grouped(x, x < 10 ? 2 : x < 100 ? 1 : 0);
const by = (method, judge) => (judge === null ? method : method + " by " + judge);
const named = r => by(r.method, r.judge);

// What a method is worth.
const value = (rate, fraction) => (fraction >= 1 ? 1 : -Math.expm1(-rate * fraction));
const quantile = (sorted, q) => {
  const at = (sorted.length - 1) * q,
    low = Math.floor(at),
    high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
};
const interval = (values, level) => {
  const told = values.filter(Number.isFinite).sort((a, b) => a - b),
    tail = (1 - level) / 2;
  return [quantile(told, tail), quantile(told, 1 - tail)];
};
// By every rate that was drawn: data.middle for the average task, data.draws for a task like those.
const reached = (drawn, method, fraction) =>
  (drawn[method] || drawn[RANDOM]).map(rate => (rate === null ? NaN : value(rate, fraction)));
const apart = (a, b) => a.map((x, i) => x - b[i]);

// The rows of a plan.
const termsOf = state => {
  const budget = data.budget * state.budget,
    whole = data.whole * state.size;
  const most = Math.min(budget / whole, 1);
  return {
    budget,
    whole,
    beta: budget / whole,
    tasks: state.tasks,
    params: data.params * state.size,
    size: state.size,
    random: data.known && {
      point: value(data.rates[RANDOM], most),
      middle: reached(data.middle, RANDOM, most),
      draws: reached(data.draws, RANDOM, most),
    },
  };
};
// One scoring is for all tasks, or for one where it begins from a target.
const sharedBy = (terms, s) => (s.shared ? terms.tasks : 1);
const selectionOf = (terms, s) => (s.flops / sharedBy(terms, s)) * (s.grows ? terms.size : 1);
const paramsOf = (terms, s) => (s.params === null ? null : s.params * (s.grows ? terms.size : 1));
// The trained model under another size goes by that size.
const judgeOf = (terms, s) =>
  s.grows && terms.size !== 1 ? params(paramsOf(terms, s)) : s.selector;
const extrapolated = (terms, s) => {
  const measured = data.measured[s.method],
    own = paramsOf(terms, s);
  return measured !== undefined && own !== null && own < K.smaller * measured[0];
};
const fractionsOf = (terms, s) => {
  const left = (terms.budget - selectionOf(terms, s)) / terms.whole;
  const all =
    s.method === RANDOM
      ? [...K.fractions, 1, Math.min(left, K.passes)]
      : [...K.fractions, left > 0 && left < 1 ? left : K.fractions[0]];
  return [...new Set(all)].sort((a, b) => a - b).filter(f => f >= data.least * (1 - SLACK));
};
const billed = (terms, s, fraction) => {
  const selection = selectionOf(terms, s),
    training = fraction * terms.whole;
  return {
    index: s.index,
    method: s.method,
    selector: s.selector,
    judge: judgeOf(terms, s),
    params: paramsOf(terms, s),
    fraction,
    selection,
    training,
    shared: s.shared,
    sharedBy: sharedBy(terms, s),
    cpu: s.cpu / sharedBy(terms, s),
    hours: (selection + training) / data.rate / 3600,
    feasible: selection + training <= terms.budget * (1 + SLACK),
    far: fraction < 1 && extrapolated(terms, s),
    predicted: null,
    utility: null,
    low: null,
    high: null,
    beats: null,
  };
};
const rowOf = (terms, s, fraction) => {
  const row = billed(terms, s, fraction);
  if (!data.known || fraction > 1 || !(s.method in data.rates || fraction >= 1)) return row;
  row.predicted = value(data.rates[s.method] || 0, fraction);
  if (!row.feasible) return row;
  const middle = apart(reached(data.middle, s.method, fraction), terms.random.middle);
  const draws = apart(reached(data.draws, s.method, fraction), terms.random.draws);
  const told = draws.filter(Number.isFinite);
  row.utility = row.predicted - terms.random.point;
  [row.low, row.high] = interval(middle, K.levels.utility);
  row.beats = told.reduce((sum, x) => sum + (Math.sign(x) + 1) / 2, 0) / told.length;
  return row;
};

// Which row to take.
const lexical = (a, b) => {
  const i = a.findIndex((x, j) => x !== b[j]);
  return i < 0 ? 0 : a[i] - b[i];
};
const best = (rows, key) =>
  rows.reduce(
    (found, row) => (found === null || lexical(key(row), key(found)) > 0 ? row : found),
    null,
  );
const recommend = (terms, rows) => {
  if (terms.beta >= 1) return [rows.find(r => r.method === RANDOM && r.fraction === 1), null];
  const measured = rows.filter(r => r.low !== null && !r.far);
  if (!measured.length) return [null, null];
  let first = best(measured, r => [r.low, -r.selection]);
  if (first.low <= 0) {
    first = best(
      measured.filter(r => r.method === RANDOM),
      r => [r.fraction],
    );
  } else {
    const kept = first,
      ahead = reached(data.middle, kept.method, kept.fraction);
    const lead = r => apart(ahead, reached(data.middle, r.method, r.fraction));
    const alike = measured.filter(
      r => r.low > 0 && (r === kept || interval(lead(r), K.levels.utility)[0] <= 0),
    );
    first = best(alike, r => [-r.selection, -r.cpu, r.low]);
  }
  const second = from =>
    best(
      from.filter(r => r.utility !== null && r.method !== first.method),
      r => [r.utility, -r.selection],
    );
  return [first, second(measured) || second(rows)];
};
// Where scoring with a language model begins to pay against the best way that costs no FLOPs.
const breakEven = (terms, rows) => {
  const against = best(
    rows.filter(r => r.utility !== null && !r.selection),
    r => [r.utility],
  );
  if (terms.beta >= 1 || against === null) return null;
  const budget = Math.min(terms.budget, terms.whole);
  const sides = rows
    .filter(r => K.byLanguageModel.includes(r.method) && r.method in data.rates && !r.far)
    .map(of => ({ of, most: budget * (1 - data.rates[against.method] / data.rates[of.method]) }))
    .filter(({ most }) => most > 0);
  const nearest = best(sides, ({ of, most }) => [-of.selection / most]);
  if (nearest === null) return null;
  const { of, most } = nearest;
  return {
    of,
    against,
    ratio: ((of.selection / most) * terms.params) / of.params,
    tasks: of.shared ? Math.ceil((of.selection * terms.tasks) / most) : null,
  };
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
  let reached = 1,
    spent = second.fraction;
  if (known) {
    const [good, other] = first.predicted >= second.predicted ? [first, second] : [second, first];
    spent = other.fraction;
    reached = Math.min(1, (data.rates[good.method] / data.rates[other.method]) * good.fraction);
  }
  const gains = Math.max(reached - spent, 0) * terms.whole * terms.tasks;
  const fraction = Math.max(first.fraction, second.fraction);
  const ofSize = size => {
    const whole = (terms.whole * Math.min(terms.params, size)) / terms.params;
    const paid = [first, second].map(r => (r.selection * r.sharedBy) / whole);
    const dearest = Math.max(...paid),
      budgets = [dearest + fraction / 2, dearest + fraction];
    if (budgets[1] > 1) return null;
    const arms = [0, ...paid.filter((_, i) => [first, second][i].method !== RANDOM)];
    const trained = seeds * sum(budgets.flatMap(b => arms.map(cost => b - cost))) + K.ends;
    const cost = (sum(paid) + trained) * whole;
    return { seeds, flops: cost, gains, pays: cost <= Math.min(gains, terms.budget * terms.tasks) };
  };
  const found = K.pilotParams.map(ofSize).filter(p => p !== null);
  return found.find(p => p.pays) || found[found.length - 1] || null;
};
const sum = numbers => numbers.reduce((a, b) => a + b, 0);

// The verdict and its reason in a line.
const worth = r =>
  signed(r.utility) +
  " of the gap more than random samples (on average " +
  signed(r.low) +
  " to " +
  signed(r.high) +
  "), better on your task with a chance of " +
  percent(r.beats);
const wouldTell = p =>
  p === null
    ? data.seeds[data.seeds.length - 1][0] + " seeds an arm would not tell the two apart"
    : p.pays
      ? "a pilot of " +
        flops(p.flops) +
        " FLOPs (" +
        hours(p.flops / data.rate / 3600) +
        ", " +
        p.seeds +
        " seeds an arm) would tell"
      : "finding out costs more than it can gain";
const judged = (terms, rows, first, second) => {
  if (terms.beta >= 1)
    return [
      "all",
      "One pass over the whole pool takes " +
        percent(1 / terms.beta) +
        " of the budget, and after it every ranking is the same set: scoring can only cost.",
    ];
  if (first === null) {
    const tried = best(
      rows.filter(r => (r.method === "bm25" || r.method === "embedding") && r.feasible),
      r => [r.fraction, r.method === "embedding" ? 1 : 0],
    );
    const none = "Nothing that was measured is like this, so there is no prediction";
    if (tried === null) return ["unknown", none + "."];
    const random = best(
      rows.filter(r => r.method === RANDOM && r.feasible),
      r => [r.fraction],
    );
    return ["unknown", none + "; " + wouldTell(pilotOf(terms, tried, random)) + "."];
  }
  const settle = second === null ? null : pilotOf(terms, first, second);
  if (first.method !== RANDOM)
    return [
      "select",
      "After paying for its scoring it is worth " +
        worth(first) +
        "." +
        (second ? " Next comes " + named(second) + "; " + wouldTell(settle) + "." : ""),
    ];
  if (rows.every(r => r.method === RANDOM) && data.scoring.some(s => s.method !== RANDOM))
    return ["unknown", "No run that was measured tells what these methods are worth."];
  if (second === null || second.utility === null || second.utility <= 0)
    return ["random", "No method is expected to earn back its scoring."];
  return [
    settle && settle.pays ? "unknown" : "random",
    named(second) + " may be better: " + worth(second) + "; " + wouldTell(settle) + ".",
  ];
};
const answer = state => {
  const terms = termsOf(state);
  if (terms.beta < data.least)
    return {
      terms,
      code: null,
      first: null,
      second: null,
      rows: [],
      reason: "The budget does not pay for one optimizer step.",
    };
  const asked = data.scoring.filter(s => (data.known ? s.method in data.rates : true));
  const rows = asked.flatMap(s => fractionsOf(terms, s).map(f => rowOf(terms, s, f)));
  const [first, second] = recommend(terms, rows);
  const [code, reason] = judged(terms, rows, first, second);
  return { terms, rows, first, second, code, reason };
};
