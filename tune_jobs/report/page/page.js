"use strict";
// Draws the figures, highlights one trial in all of them, and sorts the table. Figures are JSON: views with traces
// and a layout for plotly.js, in which `customdata` is the number of a point's trial.
(() => {
  const { figures, trials } = JSON.parse(document.getElementById("report-data").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const shownView = new Map(plots.map((plot) => [plot.dataset.name, 0]));
  const drawn = new Set();
  const MARK = "#d55e00";
  const isTouched = matchMedia("(pointer: coarse)").matches;
  const CONFIG = {
    displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false, // on touch screens it would cover the figures
    displaylogo: false, responsive: true, scrollZoom: false, showTips: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: { scale: 2 },
  };
  let marked = null;

  // --- figures ----------------------------------------------------------------------------------------------

  const viewOf = (name) => {
    const { views } = figures[name];
    const view = views[shownView.get(name)];
    return { data: view.data ?? views[0].data, layout: view.layout };
  };

  // The highlight of a trial: rings around its points, joined if the trace is a line. Bars of other trials fade.
  const markOf = (data, trial) => {
    const overlay = [];
    for (const trace of data) {
      if (trace.type === "heatmap") {
        const cell = trace.meta?.cells?.[trial];
        if (cell) overlay.push(ring([cell[0]], [cell[1]], trace, false));
      } else if (trace.type === "scatter" && trace.customdata) {
        const at = trace.customdata.flatMap((number, index) => (number === trial ? [index] : []));
        const isLine = trace.mode.includes("lines");
        if (at.length) overlay.push(ring(at.map((i) => trace.x[i]), at.map((i) => trace.y[i]), trace, isLine));
      }
    }
    return overlay;
  };

  const ring = (x, y, trace, isLine) => ({
    type: "scatter", x, y, xaxis: trace.xaxis, yaxis: trace.yaxis, hoverinfo: "skip", showlegend: false,
    mode: isLine ? "lines+markers" : "markers", line: { color: MARK, width: 4 },
    marker: { symbol: "circle-open", size: isLine ? 7 : 17, color: MARK, line: { width: 3, color: MARK } },
  });

  const faded = (trace) => {
    if (trace.type !== "bar" || !trace.customdata) return trace;
    const at = trace.customdata.flatMap((number, index) => (number === marked ? [index] : []));
    return { ...trace, selectedpoints: marked === null ? null : at, unselected: { marker: { opacity: 0.25 } } };
  };

  const draw = (plot) => {
    const { name } = plot.dataset;
    const { data, layout } = viewOf(name);
    const overlay = marked === null ? [] : markOf(data, marked);
    const isFirst = !drawn.has(name);
    drawn.add(name);
    // plotly.js modifies its arguments: it gets copies, so that a view can be drawn again.
    const copy = structuredClone({ data: [...data.map(faded), ...overlay], layout });
    copy.layout.uirevision = `view ${shownView.get(name)}`; // highlighting keeps the zoom, another view resets it
    if (isTouched) copy.layout.dragmode = false; // dragging on a figure scrolls the page
    return Plotly.react(plot, copy.data, copy.layout, CONFIG).then(() => {
      if (!isFirst) return;
      plot.on("plotly_click", ({ points }) => {
        const { customdata } = points[0];
        if (Number.isInteger(customdata)) mark(customdata);
      });
      if (drawn.size === plots.length) document.documentElement.dataset.drawn = "all";
    });
  };

  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      if (!drawn.has(target.dataset.name)) draw(target);
    }
  }, { rootMargin: "400px" });

  // Figures that are not near the viewport yet are drawn one by one while the browser is idle.
  const later = window.requestIdleCallback ?? ((work) => setTimeout(work, 30));
  const drawRest = () => {
    const next = plots.find((plot) => !drawn.has(plot.dataset.name));
    if (next) draw(next).then(() => later(drawRest));
  };

  for (const plot of plots) observer.observe(plot);
  if (!plots.length) document.documentElement.dataset.drawn = "all";
  later(drawRest);

  for (const button of document.querySelectorAll(".views button")) {
    button.addEventListener("click", () => {
      const { figure, view } = button.dataset;
      shownView.set(figure, Number(view));
      for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
      draw(document.getElementById(`figure-${figure}`));
    });
  }

  // In print a figure is as wide as the page, a width that the browser knows only while printing.
  const PAPER_PX = 680;
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = document.querySelectorAll("details:not([open])");
    for (const each of folded) each.open = true;
    for (const plot of plots) {
      if (!drawn.has(plot.dataset.name)) draw(plot);
      Plotly.relayout(plot, { autosize: false, width: PAPER_PX });
    }
  });
  addEventListener("afterprint", () => {
    for (const each of folded) each.open = false;
    for (const plot of plots) Plotly.relayout(plot, { autosize: true, width: null });
  });

  // --- the highlighted trial --------------------------------------------------------------------------------

  const panel = document.getElementById("marked");

  const mark = (trial) => {
    marked = trial === marked ? null : trial;
    for (const row of document.querySelectorAll("#trial-table tbody tr")) {
      row.classList.toggle("is-marked", Number(row.dataset.trial) === marked);
    }
    showFacts();
    for (const plot of plots) if (drawn.has(plot.dataset.name)) draw(plot);
  };

  const showFacts = () => {
    panel.hidden = marked === null;
    const found = trials[marked];
    if (!found) return;
    panel.querySelector("h2").textContent = `Trial ${found.label}`;
    const list = panel.querySelector("dl");
    list.replaceChildren(...found.facts.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
  };

  const element = (tag, text) => {
    const made = document.createElement(tag);
    made.textContent = text;
    return made;
  };

  document.getElementById("unmark").addEventListener("click", () => mark(marked));
  addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && marked !== null) mark(marked);
  });

  // --- the table --------------------------------------------------------------------------------------------

  const table = document.getElementById("trial-table");
  if (!table) return;
  const body = table.tBodies[0];
  const filter = document.getElementById("state");
  const all = document.getElementById("all-rows");
  const headings = [...table.tHead.rows[0].cells];

  const limit = () => {
    const most = all && all.getAttribute("aria-expanded") === "false" ? Number(table.dataset.shown) : Infinity;
    let count = 0;
    for (const row of body.rows) {
      const fits = !filter.value || row.dataset.state === filter.value;
      row.hidden = !fits || count >= most;
      if (fits) count += 1;
    }
  };

  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return "key" in cell.dataset ? Number(cell.dataset.key) : cell.textContent;
  };

  // Empty cells come last in both sort directions.
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
  };

  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const isAscending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", isAscending ? "descending" : "ascending");
      const sign = isAscending ? -1 : 1;
      const rows = [...body.rows].sort((a, b) => compare(keyOf(a, column), keyOf(b, column), sign));
      body.append(...rows);
      limit();
    });
  });
  filter.addEventListener("change", limit);
  all?.addEventListener("click", () => {
    const isOpen = all.getAttribute("aria-expanded") === "true";
    all.setAttribute("aria-expanded", String(!isOpen));
    all.textContent = isOpen ? `Show all ${body.rows.length}` : `Show the first ${table.dataset.shown}`;
    limit();
  });
  body.addEventListener("click", ({ target }) => {
    const row = target.closest("tr");
    if (row) mark(Number(row.dataset.trial));
  });
})();
