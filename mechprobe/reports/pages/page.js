"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Figures carry no colours of text or ground; the page gives them those of its theme.
  function painted(layout, isDark) {
    const ink = isDark ? "#d9dde1" : "#30373e";
    const grid = isDark ? "#2f363e" : "#e7e4df";
    const axis = {
      gridcolor: grid, linecolor: grid, zerolinecolor: grid, automargin: true,
      tickfont: { color: ink }, zeroline: false,
    };
    const full = structuredClone(layout);
    for (const name of ["xaxis", "yaxis"]) {
      const own = full[name] || {};
      const title = typeof own.title === "string" ? { text: own.title } : own.title || {};
      full[name] = { ...axis, ...own, title: { ...title, font: { color: ink, size: 13 } } };
    }
    return {
      ...full, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: ink },
      hoverlabel: { bgcolor: isDark ? "#2a3037" : "#ffffff", font: { color: ink } },
    };
  }

  function draw(place, isDark = dark.matches) {
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    Plotly.react(place, figure.data, painted(figure.layout, isDark), { responsive: true, displayModeBar: false });
    place.dataset.drawn = "yes";
  }

  const plots = [...document.querySelectorAll(".plot")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
    }
  }, { rootMargin: "400px" });
  plots.forEach((place) => watcher.observe(place));
  dark.addEventListener("change", () => plots.filter((place) => place.dataset.drawn).forEach((place) => draw(place)));

  // Sorting: a click on a head sorts by it, a second click turns the order round.
  for (const button of document.querySelectorAll("table.sortable th button")) {
    const head = button.parentElement;
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      head.closest("thead").querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = head.closest("table").tBodies[0];
      const value = (row) => row.cells[head.dataset.column].dataset.sort || "";
      const compare = (a, b) => {
        const [x, y] = [parseFloat(a), parseFloat(b)];
        if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
        if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? -1 : 1;
        return b.localeCompare(a);
      };
      [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(value(a), value(b))).forEach((row) => body.append(row));
    });
  }

  // A link to an indicator opens its section.
  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
  }
  addEventListener("hashchange", openTarget);
  openTarget();

  const sections = [...document.querySelectorAll("details.indicator")];
  document.getElementById("open-all")?.addEventListener("click", (event) => {
    const open = sections.some((section) => !section.open);
    sections.forEach((section) => { section.open = open; });
    event.target.textContent = open ? "Close all" : "Open all";
  });

  // Paper shows everything, in light colours.
  let wereOpen = [];
  addEventListener("beforeprint", () => {
    wereOpen = sections.map((section) => section.open);
    sections.forEach((section) => { section.open = true; });
    plots.forEach((place) => draw(place, false));
  });
  addEventListener("afterprint", () => {
    sections.forEach((section, i) => { section.open = wereOpen[i]; });
    plots.forEach((place) => draw(place));
  });
})();
