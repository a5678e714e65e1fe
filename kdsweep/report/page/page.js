"use strict";
(() => {
  const { charts, colours } = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  all("[hidden]").forEach((each) => { each.hidden = false; });

  // ---- charts: the same data, in the colours of the current scheme and the room of the window
  const NARROW = 600;
  const PAPER = 680; // the width of a sheet of A4

  // names of colours are replaced only where plotly takes a colour: "--text" may be the name of a class
  const TAKES = /color(scale)?$/;

  function coloured(value, taken = false) {
    if (taken && typeof value === "string" && value.startsWith("--")) {
      const [name, percent] = value.slice(2).split("/");
      const hex = colours[dark.matches && !printing ? "dark" : "light"][name];
      return percent ? hex + Math.round(2.55 * percent).toString(16).padStart(2, "0") : hex;
    }
    if (Array.isArray(value)) return value.map((each) => coloured(each, taken));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each, TAKES.test(key))]));
    return value;
  }

  function laidOut(layout, data, width, square) {
    const entries = data.filter((trace) => trace.name && trace.showlegend !== false && trace.visible !== false);
    const longest = Math.max(0, ...entries.map((trace) => trace.name.length));
    const across = Math.max(1, Math.floor((width - 60) / (longest * 6.6 + 52)));
    const legend = entries.length > 1 ? 20 * Math.ceil(entries.length / across) + 14 : 0;
    const margin = { l: 56, r: 12, t: 14, b: 56 };
    const plot = square ? Math.min(width - margin.l - margin.r, 460) : width < NARROW ? 220 : 320;
    const axis = { gridcolor: "--rule", linecolor: "--rule", zerolinecolor: "--rule", tickcolor: "--rule" };
    const titled = (own) => ({ ...axis, ...own, title: { standoff: 10, ...own.title } });
    return coloured({
      ...layout,
      xaxis: titled(layout.xaxis),
      yaxis: titled(layout.yaxis),
      font: { family: getComputedStyle(document.body).fontFamily, size: width < NARROW ? 12 : 13, color: "--text" },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: "--raised", bordercolor: "--rule", font: { color: "--text" }, align: "left" },
      hovermode: "closest",
      dragmode: touched ? false : "zoom",
      margin: { ...margin, b: margin.b + legend },
      height: margin.t + plot + margin.b + legend,
      width,
      showlegend: entries.length > 1,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 0, yanchor: "bottom", yref: "container", entrywidth: longest * 6.6 + 12, font: { size: 12 } },
    });
  }

  const touched = matchMedia("(pointer: coarse)").matches; // dragging scrolls the page there
  const CONFIG = {
    displaylogo: false, showTips: false, displayModeBar: touched ? false : "hover",
    modeBarButtons: [["toImage", "resetScale2d"]],
  };

  function draw(section) {
    const chosen = all("select", section)[0];
    const view = charts[section.id][chosen ? chosen.value : 0];
    const toggle = all(".toggle input", section)[0];
    all("figcaption", section)[0].textContent = view.says;
    all(".chart", section).forEach((div, i) => {
      const figure = view.figures[i];
      const panel = div.parentElement;
      panel.hidden = !figure;
      if (!figure) return;
      div.setAttribute("aria-label", figure.heading);
      all("h3", panel).forEach((each) => { each.textContent = figure.heading; });
      const data = figure.data.map((trace) => ({
        ...coloured(trace),
        visible: trace.meta !== "toggle" || !toggle || toggle.checked,
      }));
      const width = Math.min(Math.floor(panel.getBoundingClientRect().width), printing ? PAPER : Infinity);
      Plotly.react(div, data, laidOut(figure.layout, data, width, section.classList.contains("square")), CONFIG);
      div.drawn = width;
    });
  }

  const sections = all("section.charts");
  const drawAll = () => sections.forEach(draw);
  for (const section of sections)
    all("select, .toggle input", section).forEach((each) => each.addEventListener("change", () => draw(section)));
  dark.addEventListener("change", drawAll);
  addEventListener("beforeprint", () => { printing = true; drawAll(); });
  addEventListener("afterprint", () => { printing = false; drawAll(); });
  new ResizeObserver(() => {
    for (const section of sections) {
      const moved = all(".chart", section).some((div) => div.drawn && Math.abs(div.parentElement.getBoundingClientRect().width - div.drawn) > 1);
      if (moved) draw(section);
    }
  }).observe(document.body);
  // one after another, so that the page responds meanwhile
  const drawFrom = (i) => { if (i < sections.length) { draw(sections[i]); setTimeout(drawFrom, 0, i + 1); } else document.documentElement.dataset.drawn = "yes"; };
  drawFrom(0);

  // ---- leaderboard: sorted by a column, searched by words
  const board = document.getElementById("board");
  if (board) {
    const body = board.tBodies[0];
    const rows = [...body.rows];
    const heads = all("th", board);
    const ranked = heads[0].textContent.trim() === "rank"; // not where no image was held back for validation
    if (ranked) rows.filter((row) => row.cells[0].dataset.order === "1").forEach((row) => row.classList.add("best"));
    const order = (row, column) => row.cells[column].dataset.order;
    const sort = (column) => {
      const head = heads[column];
      const upwards = head.getAttribute("aria-sort") === "ascending" ? -1 : head.getAttribute("aria-sort") === "descending" ? 1 : column === 0 || !head.classList.contains("number") ? 1 : first(column);
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", upwards === 1 ? "ascending" : "descending");
      const compare = (a, b) => {
        const [x, y] = [order(a, column), order(b, column)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // empty cells last
        return upwards * (isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
      };
      rows.sort(compare).forEach((row) => body.append(row));
    };
    const first = (column) => (/%|^vs/.test(heads[column].textContent) ? -1 : 1); // the best accuracies first
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(column)));
    if (ranked) heads[0].setAttribute("aria-sort", "ascending");

    const search = document.getElementById("search");
    const found = document.getElementById("found");
    const names = heads.map((head) => head.textContent.trim().toLowerCase());
    const texts = new Map(rows.map((row) => [row, [...row.cells].map((cell, i) => `${names[i]} ${cell.textContent} ${names[i]}=${cell.textContent}`).join(" | ").toLowerCase()]));
    const show = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row) => { row.hidden = !words.every((word) => texts.get(row).includes(word)); });
      const left = rows.filter((row) => !row.hidden).length;
      found.textContent = words.length ? `${left} of ${rows.length} recipes` : "";
    };
    search.addEventListener("input", show);
  }

  // ---- copying
  const said = document.getElementById("copied");
  all(".copy").forEach((button) => button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.of);
    if (said.previousElementSibling !== button) { said.textContent = ""; button.after(said); }
    try {
      await navigator.clipboard.writeText(source.textContent);
      said.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(source);
      said.textContent = "Selected: copy it with the keyboard.";
    }
  }));
})();
