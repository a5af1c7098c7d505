"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = (id) => JSON.parse($(id).textContent);
  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  document.documentElement.classList.add("js");

  // Colours: of the system, or as chosen; paper is light.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const themes = ["system", "light", "dark"];
  let theme = "system";
  let isPrinting = false;
  const applyTheme = () => {
    const chosen = isPrinting ? "light" : theme === "system" ? (dark.matches ? "dark" : "light") : theme;
    document.documentElement.dataset.theme = chosen;
    $("theme").textContent = `Colours: ${theme}`;
    $("theme").setAttribute("aria-label", `Colours of the page: ${theme}. Change them`);
    drawn.forEach(draw);
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // Charts: drawn when they come into view, again when the colours change.
  const charts = data("charts-data");
  const drawn = new Set();
  const isHidden = new Map(); // chart -> classes that are not shown
  const coloured = (value, colours) => {
    if (typeof value === "string") return value[0] === "$" && colours[value] ? colours[value] : value;
    if (Array.isArray(value)) return value.map((each) => coloured(each, colours));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each, colours)]));
    }
    return value;
  };
  const draw = (element) => {
    const colours = {};
    for (const name of ["text", "muted", "grid", "paper"]) colours[`$${name}`] = colour(name);
    const chart = coloured(charts[element.dataset.chart], colours);
    const hidden = isHidden.get(element.dataset.chart);
    for (const trace of chart.data) if (hidden && hidden.has(String(trace.meta))) trace.visible = false;
    chart.layout.height = chart.height;
    chart.layout.font.family = "system-ui, sans-serif";
    if (element.clientWidth < 500) {
      chart.layout.font.size = 11;
      const broken = (each) => (typeof each === "string" ? each.replace(" · ", "<br>") : each);
      if (chart.layout.yaxis.type === "category") {
        for (const trace of chart.data) trace.y = trace.y.map(broken);
        const names = new Set(chart.data.flatMap((trace) => trace.y));
        const twoLines = [...names].filter((each) => String(each).includes("<br>")).length;
        const legend = chart.layout.showlegend ? chart.data.filter((trace) => trace.showlegend !== false).length : 0;
        chart.layout.height += 10 * twoLines + 16 * Math.max(0, legend - 2); // a legend has a line for each name here
      }
    }
    if (element.dataset.chart.endsWith("-matrix")) {
      const [trace] = chart.data;
      const room = (element.clientWidth - 120) / new Set(trace.x).size; // of a batch
      trace.marker.size = trace.marker.size.map((each) => each * Math.min(1, room / 30));
      if (room < 60) trace.mode = "markers"; // no room for the numbers, which are in the table
    }
    drawn.add(element);
    return Plotly.react(element, chart.data, chart.layout, { responsive: true, displayModeBar: false });
  };
  const plots = [...document.querySelectorAll(".plot")];
  for (const element of plots) element.style.minHeight = `${charts[element.dataset.chart].height}px`;
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting && !drawn.has(target)) draw(target);
    }
  }, { rootMargin: "400px" });
  plots.forEach((element) => seen.observe(element));

  // Tabs.
  for (const list of document.querySelectorAll("[role=tablist]")) {
    const tabs = [...list.querySelectorAll("[role=tab]")];
    const panel = (tab) => $(tab.getAttribute("aria-controls"));
    const select = (chosen, focus) => {
      for (const tab of tabs) {
        const isChosen = tab === chosen;
        tab.setAttribute("aria-selected", String(isChosen));
        tab.tabIndex = isChosen ? 0 : -1;
        panel(tab).hidden = !isChosen;
      }
      if (focus) chosen.focus();
    };
    tabs.forEach((tab, index) => {
      tab.addEventListener("click", () => select(tab, false));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1, Home: -index, End: tabs.length - 1 - index }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        select(tabs[(index + step + tabs.length) % tabs.length], true);
      });
    });
    select(tabs[0], false);
  }

  // Classes of the projection.
  const projection = $("projection-classes");
  if (projection) {
    const marks = ["●", "■", "◆", "▲", "✚", "✖", "★", "▼"];
    const own = plots.filter((element) => element.dataset.chart.startsWith("projection-"));
    for (const key of projection.querySelectorAll(".key")) {
      const trace = charts[own[0].dataset.chart].data[Number(key.dataset.key)];
      key.style.color = trace.marker.color;
      const symbols = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down"];
      key.textContent = marks[symbols.indexOf(trace.marker.symbol)] || "●";
    }
    projection.addEventListener("change", () => {
      const off = [...projection.querySelectorAll("input:not(:checked)")].map((box) => box.value);
      for (const element of own) {
        isHidden.set(element.dataset.chart, new Set(off));
        if (drawn.has(element)) draw(element);
      }
    });
  }

  // Image grids: a page of classes at a time; an atlas is decoded when one of its classes comes into view.
  const pictures = data("pictures-data");
  const grids = $("grids");
  if (grids) {
    const PAGE = 12;
    const side = pictures.side;
    const where = new Map(); // label -> [block, row in the atlas]
    pictures.blocks.forEach((labels, block) => labels.forEach((label, row) => where.set(label, [block, row])));
    const all = [...where.keys()];
    const order = data("order-data");
    const shownRows = new Set(pictures.rows.keys());
    const atlases = new Map();
    const atlas = (row, block) => {
      const id = `atlas-${row}-${block}`;
      if (!atlases.has(id)) {
        const image = new Image();
        image.src = `data:image/webp;base64,${$(id).textContent}`;
        atlases.set(id, image.decode().then(() => image));
        if (atlases.size > 60) atlases.delete(atlases.keys().next().value);
      }
      return atlases.get(id);
    };
    const rowName = (row) => [row.name, row.store].filter(Boolean).join(" · ");
    pictures.rows.forEach((row, index) => {
      const label = make("label");
      const box = make("input");
      box.type = "checkbox";
      box.checked = true;
      box.addEventListener("change", () => {
        if (box.checked) shownRows.add(index); else shownRows.delete(index);
        show();
      });
      label.append(box, make("bdi", rowName(row)));
      $("row-choice").append(label);
    });
    const zoom = () => Math.max(1, Math.round((32 * (1 + Number($("image-size").value))) / side * 2) / 2);
    const drawStrip = async (canvas) => {
      const [row, block, line] = canvas.dataset.at.split(" ").map(Number);
      const image = await atlas(row, block);
      const columns = pictures.rows[row].columns[block];
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      for (let k = 0; k < columns; k += 1) {
        context.drawImage(image, k * side, line * side, side, side, k * (side + 1), 0, side, side);
      }
      canvas.dataset.drawn = "yes";
    };
    const near = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting && !target.dataset.drawn) drawStrip(target);
      }
    }, { rootMargin: "300px" });
    const strip = (label, index) => {
      const row = pictures.rows[index];
      const [block, line] = where.get(label);
      const columns = row.columns[block];
      const missing = row.missing[block].filter(([each]) => each === label).length;
      const element = make("div", undefined, "strip");
      const title = make("span");
      title.append(make("bdi", rowName(row)));
      if (row.starts.length) title.append(make("small", `initial images of ${row.starts.join(", ")}`));
      if (missing) title.append(make("small", missing === columns ? "not made yet" : `${missing} not made yet`));
      const canvas = make("canvas", undefined, side * zoom() > 1.6 * side ? "" : "smooth");
      canvas.width = columns * (side + 1) - 1;
      canvas.height = side;
      canvas.style.width = `${canvas.width * zoom()}px`;
      canvas.style.height = `${side * zoom()}px`;
      canvas.dataset.at = `${index} ${block} ${line}`;
      canvas.setAttribute("role", "img");
      canvas.setAttribute(
        "aria-label",
        `Class ${pictures.names[label]}, ${rowName(row)}: ${columns} ${columns === 1 ? "image" : "images"}` +
          (missing ? `, ${missing} of them not made yet` : ""),
      );
      near.observe(canvas);
      element.append(title, canvas);
      return element;
    };
    let found = all;
    let first = 0;
    const show = () => {
      near.disconnect();
      grids.replaceChildren();
      const widest = Math.max(...pictures.rows.map((row) => Math.max(...row.columns)));
      const width = Math.round(190 + widest * (side + 1) * zoom());
      grids.style.gridTemplateColumns = `repeat(auto-fill, minmax(min(100%, ${width}px), 1fr))`;
      for (const label of found.slice(first, first + PAGE)) {
        const element = make("section", undefined, "class");
        const name = make("h3");
        name.append(make("bdi", pictures.names[label]), make("small", ` class ${label}`, "hint"));
        const strips = make("div", undefined, "strips");
        strips.tabIndex = 0;
        strips.setAttribute("role", "region");
        strips.setAttribute("aria-label", `Images of class ${pictures.names[label]}`);
        pictures.rows.forEach((_, index) => { if (shownRows.has(index)) strips.append(strip(label, index)); });
        element.append(name, strips);
        grids.append(element);
      }
      const last = Math.min(first + PAGE, found.length);
      const noun = found.length === 1 ? "class" : "classes";
      $("class-count").textContent = found.length ? `${found.length} ${noun}` : "No class has this name or number.";
      $("page-now").textContent = found.length ? `${first + 1} to ${last} of ${found.length}` : "";
      $("page-back").disabled = first === 0;
      $("page-next").disabled = last >= found.length;
      document.querySelector(".pager").hidden = found.length <= PAGE;
    };
    const search = () => {
      const wanted = $("class-filter").value.trim().toLocaleLowerCase();
      const sorted = { label: all, least: order, most: [...order].reverse() }[$("class-order").value];
      const labels = sorted.filter((label) => where.has(label));
      found = labels.filter(
        (label) => !wanted || String(label) === wanted || pictures.names[label].toLocaleLowerCase().includes(wanted),
      );
      first = 0;
      show();
    };
    const turn = (step) => () => {
      first += step * PAGE;
      show();
      $("images").scrollIntoView();
    };
    $("class-filter").addEventListener("input", search);
    $("class-order").addEventListener("change", search);
    $("image-size").addEventListener("change", show);
    $("image-controls").addEventListener("submit", (event) => event.preventDefault());
    $("page-back").addEventListener("click", turn(-1));
    $("page-next").addEventListener("click", turn(1));
    addEventListener("beforeprint", () => {
      for (const canvas of grids.querySelectorAll("canvas")) if (!canvas.dataset.drawn) drawStrip(canvas);
    });
    show();
  }

  // Copying of code.
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  $("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    applyTheme();
  });
  dark.addEventListener("change", applyTheme);
  addEventListener("beforeprint", () => {
    isPrinting = true;
    plots.forEach((element) => drawn.add(element));
    applyTheme();
  });
  addEventListener("afterprint", () => {
    isPrinting = false;
    applyTheme();
  });
  applyTheme();
})();
