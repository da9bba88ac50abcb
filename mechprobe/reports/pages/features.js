"use strict";
(() => {
  // Short names: i number, n active tokens, d density, m largest, a mean, h histogram, x strongest examples, q bands,
  // w words, l raised and b lowered tokens, s spread of logits, k nearest rows, g indicators, f falsifiers.
  const data = JSON.parse(document.getElementById("data").textContent);
  const byNumber = new Map(data.features.map((one) => [one.i, one]));
  const find = document.getElementById("find"), order = document.getElementById("order");
  const list = document.getElementById("list"), place = document.getElementById("feature");
  const SHOWN = 300;

  function make(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    if (name) made.className = name;
    return made;
  }
  const number = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toLocaleString("en"));
  const share = (value) => (value === null ? "–" : `${number(100 * value)} %`);
  const plain = (slug) => slug.replaceAll("_", " ");
  const visible = (word) => word.replaceAll("\n", "⏎") || "∅";

  const orders = [
    ["number", "number", (a, b) => a.i - b.i],
    ["density", "most frequent first", (a, b) => b.d - a.d],
    ["rare", "rarest first", (a, b) => (a.n ? a.n : Infinity) - (b.n ? b.n : Infinity)],
    ["largest", "largest activation", (a, b) => b.m - a.m],
    ["spread", "largest effect on logits, a unit", (a, b) => (b.s || 0) - (a.s || 0)],
  ];
  for (const [name, label] of orders) order.append(new Option(label, name));
  for (const name of Object.keys(data.rankings)) order.append(new Option(`best for: ${plain(name)}`, `:${name}`));

  function chosen() {
    const ranking = order.value.startsWith(":") ? data.rankings[order.value.slice(1)] : null;
    let found = ranking
      ? ranking.map(([feature, auroc, p]) => [byNumber.get(feature), `AUROC ${number(auroc)}${p === null ? "" : `, p ${number(p)}`}`]).filter(([one]) => one)
      : [...data.features].sort(orders.find(([name]) => name === order.value)[2]).map((one) => [one, null]);
    const wanted = find.value.trim().toLowerCase();
    if (/^\d+$/.test(wanted)) found = found.filter(([one]) => String(one.i).startsWith(wanted));
    else if (wanted) found = found.filter(([one]) => one.w.concat(one.l || []).some(([word]) => data.words[word].toLowerCase().includes(wanted)));
    return found;
  }

  function refresh() {
    const found = chosen();
    document.getElementById("count").textContent = `${found.length.toLocaleString("en")} features${found.length > SHOWN ? `, the first ${SHOWN} listed` : ""}`;
    list.replaceChildren(...found.slice(0, SHOWN).map(([one, note]) => {
      const row = make("li"), button = make("button");
      button.type = "button";
      button.append(make("b", one.i), make("small", note || (one.n ? one.w.slice(0, 3).map(([word]) => visible(data.words[word]).trim()).join(", ") : "never active")));
      button.addEventListener("click", () => { location.hash = one.i; });
      button.dataset.feature = one.i;
      row.append(button);
      return row;
    }));
    mark();
  }
  function mark() {
    for (const button of list.querySelectorAll("button")) {
      if (button.dataset.feature === location.hash.slice(1)) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  function table(title, rows) {
    const box = make("div"), body = make("table");
    box.append(make("h3", title));
    for (const cells of rows) {
      const row = body.insertRow();
      cells.forEach((cell, at) => { const one = row.insertCell(); one.append(cell); if (at) one.className = "n"; });
    }
    box.append(rows.length ? body : make("small", "none"));
    return box;
  }
  const word = (at) => make("span", visible(data.words[at]), "word");

  function shot([transcript, position, tokens, heat], largest) {
    const tint = new Map();
    for (let at = 0; at < heat.length; at += 2) tint.set(heat[at], heat[at + 1]);
    const line = make("div", null, "shot");
    tokens.forEach((token, at) => {
      const piece = make("span", data.words[token].replaceAll("\n", "⏎"), at === position ? "t own" : "t");
      const percent = tint.get(at);
      if (percent !== undefined) { piece.style.setProperty("--h", `${percent}%`); piece.title = number(percent / 100 * largest); }
      line.append(piece);
    });
    line.append(make("small", data.transcripts[transcript]));
    return line;
  }

  function link(feature) {
    const anchor = make("a", feature);
    anchor.href = `#${feature}`;
    return anchor;
  }

  function show() {
    const one = byNumber.get(Number(location.hash.slice(1)));
    if (!one) return;
    const parts = [make("h2", `Feature ${one.i}`)];
    parts[0].style.marginTop = "0";
    parts.push(make("p", one.n
      ? `Active on ${one.n.toLocaleString("en")} tokens (${share(one.d)}), ${number(one.a)} on average, at most ${number(one.m)}.`
      : "Never active on these tokens.", "muted"));
    const bars = make("div", null, "bars"), highest = Math.max(1, ...one.h);
    bars.setAttribute("role", "img");
    bars.setAttribute("aria-label", "Histogram of activations from 0 to the largest, heights on a logarithmic scale");
    one.h.forEach((count) => { const bar = make("i"); bar.style.height = `${100 * Math.log1p(count) / Math.log1p(highest)}%`; bar.title = `${count} tokens`; bars.append(bar); });
    if (one.n) parts.push(bars, make("small", "Activations from 0 to the largest; heights on a logarithmic scale."));
    const side = make("div", null, "side");
    side.append(table("Tokens it is active on (lift)", one.w.map(([at, count, lift]) => [word(at), `${count}`, `×${number(lift)}`])));
    if (one.g) side.append(table("Indicators (share, lift)", one.g.map(([at, part, lift]) => [plain(data.indicators[at]), share(part), `×${number(lift)}`])));
    if (one.l) side.append(table("Raises (logit a unit)", one.l.slice(0, 6).map(([at, value]) => [word(at), number(value)])),
      table("Lowers", one.b.slice(0, 6).map(([at, value]) => [word(at), number(value)])));
    if (one.k) side.append(table("Nearest decoder rows (cosine)", one.k.map(([other, cosine]) => [link(other), number(cosine)])));
    if (one.f) {
      const tests = table("Falsifiers", one.f.map(([indicator, test, figure, reading]) => [`${plain(indicator)}: ${plain(test)}`, `${number(figure)}`, reading]));
      tests.classList.add("whole-row");
      side.append(tests);
    }
    parts.push(side);
    if (one.x.length) parts.push(make("h3", "Strongest, one of each transcript"), ...one.x.map((example) => shot(example, one.m)));
    [...one.q].reverse().forEach(([low, high, part, examples]) => {
      parts.push(make("h3", `Drawn from activations ${number(low)} to ${number(high)} (${share(part)} of its tokens)`), ...examples.map((example) => shot(example, one.m)));
    });
    place.replaceChildren(...parts);
    mark();
  }

  find.addEventListener("input", refresh);
  order.addEventListener("change", refresh);
  addEventListener("hashchange", show);
  order.value = Object.keys(data.rankings).length ? `:${Object.keys(data.rankings)[0]}` : "density";
  refresh();
  if (!byNumber.has(Number(location.hash.slice(1))) || location.hash.length < 2) {
    const first = list.querySelector("button");
    if (first) location.replace(`#${first.dataset.feature}`);
  }
  show();
})();
