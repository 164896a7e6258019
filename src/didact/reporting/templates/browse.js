"use strict";
// Filters, sorts and walks the rows of the table of samples. Without it the table is whole.
(() => {
  const section = document.getElementById("browse");
  const body = section.querySelector("tbody");
  const rows = [...body.rows];
  const form = section.querySelector("form");
  const found = document.getElementById("browse-found");
  const field = name => document.getElementById("browse-" + name);
  const value = name => (field(name) ? field(name).value : "");
  const plain = text => text.normalize("NFKC").toLowerCase();
  const texts = new Map();
  const textOf = row => {
    if (!texts.has(row)) texts.set(row, plain(row.textContent));
    return texts.get(row);
  };
  const number = (row, name) => (name in row.dataset ? Number(row.dataset[name]) : Infinity);
  let shown = rows;

  const fits = () => {
    const words = plain(value("search")).split(/\s+/).filter(Boolean);
    const source = value("source"), why = value("why"), low = value("low"), high = value("high");
    return row => {
      const data = row.dataset;
      if (source && data.source !== source) return false;
      if (why === "in" || why === "out") {
        if ((data.in === "1") !== (why === "in")) return false;
      } else if (why && data.why !== why) return false;
      if ((low || high) && !("score" in data)) return false;
      if (low && Number(data.score) < Number(low)) return false;
      if (high && Number(data.score) > Number(high)) return false;
      return words.every(word => textOf(row).includes(word));
    };
  };

  const update = () => {
    const key = value("sort"), fit = fits();
    const up = key === "tokens" ? -1 : 1;
    const at = new Map(rows.map((row, i) => [row, i]));
    const sorted = [...rows].sort((a, b) => {
      const x = number(a, key), y = number(b, key);
      return x === y ? at.get(a) - at.get(b) : up * (x < y ? -1 : 1);
    });
    shown = sorted.filter(fit);
    const kept = new Set(shown);
    const focused = document.activeElement;
    for (const row of sorted) {
      row.hidden = !kept.has(row);
      row.classList.remove("beyond");
    }
    shown.slice(40).forEach(row => row.classList.add("beyond"));
    body.append(...sorted);
    if (section.contains(focused)) focused.focus({ preventScroll: true });
    found.textContent = shown.length === rows.length
      ? rows.length.toLocaleString("en") + " rows"
      : shown.length.toLocaleString("en") + " of " + rows.length.toLocaleString("en") + " rows fit";
  };

  const summary = row => row.querySelector("summary");
  const current = () => document.activeElement.closest("#browse tbody tr");
  const move = step => {
    if (!shown.length) return;
    const at = shown.indexOf(current());
    const to = at < 0 ? 0 : Math.min(Math.max(at + step, 0), shown.length - 1);
    summary(shown[to]).focus();
    shown[to].scrollIntoView({ block: "nearest" });
  };

  addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target, writing = target.closest("input:not([type=checkbox]), select");
    const inRows = target.closest("#browse .rows");
    if (event.key === "Escape") {
      const row = current();
      if (target === field("search") && target.value) {
        target.value = "";
        update();
      } else if (row && row.querySelector("details").open) {
        row.querySelector("details").open = false;
        summary(row).focus();
      } else if (row) field("search").focus();
      else if (writing) target.blur();
      else return;
    } else if (inRows && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      move(event.key === "ArrowDown" ? 1 : -1);
    } else if (target === field("search") && event.key === "ArrowDown") {
      move(1);
    } else if (writing || !field("keys").checked) {
      return;
    } else if (event.key === "/") {
      field("search").focus();
      field("search").select();
    } else if (event.key === "j" || event.key === "k") {
      move(event.key === "j" ? 1 : -1);
    } else return;
    event.preventDefault();
  });

  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", event => {
    if (event.target !== field("keys")) update();
  });
  form.hidden = false;
  section.classList.add("live");
  update();
})();
