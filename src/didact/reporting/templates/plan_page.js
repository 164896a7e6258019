// What the sliders change in a plan's page.

const HEADS = {
  random: "Take random samples",
  all: "Train on all of it",
  unknown: "Nobody can know beforehand",
};
const text = (place, what) => {
  if (place) place.textContent = what;
};
const showOutcome = found => {
  const { terms, rows, first, second, code, reason } = found;
  text(
    $("outcome-head"),
    code === null ? "Not one step" : code === "select" ? "Select by " + named(first) : HEADS[code],
  );
  $("outcome-head").className = "code " + (code || "");
  text($("outcome-reason"), reason);
  const more = [];
  if (first && code !== "all")
    more.push(
      (code === "unknown" ? "Safe: " : "Take ") +
        named(first) +
        " for " +
        percent(first.fraction) +
        " of a full pass.",
    );
  const pays = breakEven(terms, rows);
  if (pays)
    more.push(
      named(pays.of) +
        " pays against " +
        named(pays.against) +
        " from a size ratio of " +
        ratio(pays.ratio) +
        " (here " +
        ratio(terms.params / pays.of.params) +
        ")" +
        (pays.tasks === null
          ? "."
          : ", or from " +
            grouped(pays.tasks, 0) +
            (pays.tasks === 1 ? " task." : " tasks that share the scoring.")),
    );
  if (data.known && (terms.params < data.trained[0] || terms.params > data.trained[1]))
    more.push(
      "The models that predictions rest on have other sizes: " +
        params(data.trained[0]) +
        " to " +
        params(data.trained[1]) +
        ".",
    );
  text($("outcome-more"), more.join(" "));
  Object.assign($("outcome").dataset, {
    code: code || "",
    method: first ? first.method : "",
    selector: first && first.selector !== null ? first.selector : "",
    fraction: first ? first.fraction : "",
    low: first && first.low !== null ? first.low : "",
    ratio: pays ? pays.ratio : "",
    second: second ? by(second.method, second.selector) : "",
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
    const line = document.querySelector('.bill tr[data-index="' + r.index + '"]'),
      part = name => line.querySelector("." + name);
    line.className = r.feasible ? "" : "dear";
    if (first && r.feasible && r.index === first.index) line.className = "taken";
    part("part-score").style.width = 100 * Math.min(r.selection / scale, 1) + "%";
    part("part-train").style.width = r.feasible ? (100 * r.training) / scale + "%" : "0%";
    if (r.judge !== null) text(line.querySelector("th .user"), r.judge);
    text(
      part("reads"),
      r.feasible
        ? "reads " + percent(r.fraction) + " of the pool"
        : "over the budget: needs " +
            flops(r.selection + r.training) +
            " for " +
            percent(r.fraction) +
            " of the pool",
    );
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
const titled = (made, said) => {
  made.append(make("title", {}, said));
  return made;
};
const across = x => (100 * x).toFixed(3) + "%";
const logTicks = (low, high) => {
  const powers = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) powers.push(p);
  const within = t => t >= low && t <= high,
    tens = powers.map(p => Math.pow(10, p)).filter(within);
  const ticks =
    tens.length >= 3
      ? tens
      : powers.flatMap(p => [1, 2, 5].map(m => m * Math.pow(10, p))).filter(within);
  return ticks.filter((_, i) => i % Math.max(1, Math.ceil(ticks.length / 6)) === 0);
};
const curvesOf = ({ terms, first }) =>
  Object.keys(data.rates).flatMap(method => {
    const found = data.scoring.filter(s => s.method === method);
    const chosen = best(found, s => [
      first && s.index === first.index ? 1 : 0,
      extrapolated(terms, s) ? 0 : 1,
      -s.flops * (s.grows ? terms.size : 1),
    ]);
    return chosen === null
      ? []
      : [
          {
            scoring: chosen,
            method,
            name: by(method, judgeOf(terms, chosen)),
            selection: selectionOf(terms, chosen),
            rate: data.rates[method],
            band:
              method === RANDOM || (first && first.method === method)
                ? interval(data.draws[method], K.levels.value)
                : null,
          },
        ];
  });
const frontierOf = rows => {
  const total = r => r.selection + r.training,
    kept = [];
  for (const r of rows
    .filter(r => r.feasible && r.predicted !== null)
    .sort((a, b) => total(a) - total(b) || b.predicted - a.predicted)) {
    if (!kept.length || r.predicted > kept[kept.length - 1].predicted) kept.push(r);
  }
  return kept;
};
const showFrontier = found => {
  const chart = document.querySelector("svg.frontier");
  if (!chart) return;
  const { terms, rows, first } = found,
    { budget, whole } = terms,
    curves = curvesOf(found);
  const far = Math.min(
    Math.max(...curves.map(c => c.selection)) + whole,
    K.farthest * Math.max(budget, whole),
  );
  const low = K.cheapest * Math.min(budget, whole),
    high = 1.1 * Math.max(1.3 * budget, whole, far);
  const place = x => Math.log(x / low) / Math.log(high / low),
    at = place(budget),
    y = v => H * (1 - v);
  const pen = (points, open) =>
    points
      .map(([a, b], i) => (i || !open ? "L" : "M") + (1000 * a).toFixed(2) + " " + b.toFixed(2))
      .join("");
  const sampled = c => {
    const start = Math.max(low - c.selection, 1e-3 * whole) / whole,
      stop = Math.min((high - c.selection) / whole, 1);
    if (stop <= start) return [];
    const out = Array.from({ length: K.points }, (_, i) =>
      i === K.points - 1 ? stop : start * Math.pow(stop / start, i / (K.points - 1)),
    );
    return [...out, Math.min(Math.max((budget - c.selection) / whole, start), stop)].sort(
      (a, b) => a - b,
    );
  };
  const layer = make("svg", {
    width: "100%",
    height: H,
    viewBox: "0 0 1000 " + H,
    preserveAspectRatio: "none",
    overflow: "visible",
  });
  const line = (c, kind, points) =>
    layer.append(
      titled(make("path", { class: "curve " + c.color + kind, d: pen(points, true) }), c.name),
    );
  for (const c of curves) {
    const item = [...document.querySelectorAll("[data-curve]")].find(
      e => e.dataset.curve === c.method,
    );
    c.color = item.querySelector("line").classList[1];
    text(item.querySelector(".user"), c.name);
    c.at = sampled(c).map(f => [place(c.selection + f * whole), f]);
    if (c.band && c.at.length) {
      const [lower, upper] = c.band.map(rate => c.at.map(([x, f]) => [x, y(value(rate, f))]));
      layer.append(
        make("path", {
          class: "area " + c.color,
          d: pen(upper, true) + pen(lower.reverse(), false) + "Z",
        }),
      );
    }
  }
  for (const c of curves) {
    const points = c.at.map(([x, f]) => [x, y(value(c.rate, f))]);
    line(
      c,
      "",
      points.filter(([x]) => x <= at + SLACK),
    );
    line(
      c,
      " beyond",
      points.filter(([x]) => x >= at - SLACK),
    );
  }
  const out = [];
  for (let i = 0; i <= 5; i++) {
    out.push(make("line", { class: "grid", x1: 0, x2: "100%", y1: y(i / 5), y2: y(i / 5) }));
    out.push(
      make("text", { class: "tick", x: -8, y: y(i / 5) + 4, "text-anchor": "end" }, 20 * i + "%"),
    );
  }
  out.push(
    make("rect", { class: "over", x: across(at), y: 0, width: across(1 - at), height: H }),
    layer,
  );
  out.push(make("line", { class: "cut", x1: across(at), x2: across(at), y1: -6, y2: H }));
  const right = at < 0.6;
  out.push(
    make(
      "text",
      {
        class: "cut",
        x: across(at),
        y: H - 10,
        dx: right ? 7 : -7,
        "text-anchor": right ? "start" : "end",
      },
      "your budget",
    ),
  );
  for (const r of frontierOf(rows)) {
    out.push(
      titled(
        make("circle", {
          class: r.far ? "front far" : "front",
          cx: across(place(r.selection + r.training)),
          cy: y(r.predicted),
          r: 4,
        }),
        named(r) + ", " + percent(r.fraction) + " of a full pass: " + percent(r.predicted),
      ),
    );
  }
  if (first && first.predicted !== null)
    out.push(
      make("circle", {
        class: "taken",
        cx: across(place(first.selection + first.training)),
        cy: y(first.predicted),
        r: 8,
      }),
    );
  out.push(make("line", { class: "axis", x1: 0, x2: "100%", y1: H, y2: H }));
  for (const t of logTicks(low, high)) {
    const x = place(t);
    out.push(make("line", { class: "axis", x1: across(x), x2: across(x), y1: H, y2: H + 5 }));
    out.push(
      make(
        "text",
        {
          class: "tick",
          x: across(x),
          y: H + 19,
          "text-anchor": x < 0.03 ? "start" : x > 0.93 ? "end" : "middle",
        },
        flops(t),
      ),
    );
  }
  out.push(...chart.querySelectorAll(".name"));
  chart.replaceChildren(...out);
  const says = curves.map(
    c =>
      c.name +
      " " +
      (budget > c.selection
        ? percent(value(c.rate, (budget - c.selection) / whole))
        : "over the budget"),
  );
  chart.setAttribute(
    "aria-label",
    "Value against FLOPs. At the budget of " + flops(budget) + ": " + says.join(", ") + ".",
  );
};

// The sliders: powers of ten, powers of two, round numbers.
const tasks = [...new Set([1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, data.tasks])].sort(
  (a, b) => a - b,
);
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
  const found = answer(state),
    { terms } = found;
  say(
    sliders[0],
    "said-budget",
    flops(terms.budget) + " FLOPs, " + hours(terms.budget / data.rate / 3600),
  );
  say(sliders[1], "said-size", params(terms.params));
  say(sliders[2], "said-tasks", grouped(terms.tasks, 0));
  const moved = [b, s, t].some((v, i) => v !== asked[i]);
  for (const tag of document.querySelectorAll(".moved")) tag.hidden = !moved;
  $("reset").disabled = !moved;
  showOutcome(found);
  if (moved || update.drawn) {
    showBill(found);
    showFrontier(found);
    update.drawn = true;
  }
};
const reset = () => {
  sliders.forEach((slider, i) => {
    slider.value = asked[i];
  });
  update();
};
let waiting = false;
for (const slider of sliders) {
  slider.addEventListener("change", update);
  slider.addEventListener("input", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      update();
    });
  });
}
$("reset").addEventListener("click", reset);
$("sliders").hidden = false;
reset();
