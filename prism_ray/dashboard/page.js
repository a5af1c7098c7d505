"use strict";
// Asks the server every few seconds and shows the answers. Text is set as text, never as HTML.

const EVERY_MS = 3000;
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];
const one = (id) => document.getElementById(id);
let newest = null; // batches whose images and curves are shown

function element(name, text, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== undefined) made.textContent = text;
  return made;
}

function bar(share, label) {
  const cell = element("td");
  const made = element("progress", undefined, { max: 1, value: share });
  made.setAttribute("aria-label", `${label}: ${Math.round(100 * share)} percent done`);
  cell.append(made);
  return cell;
}

function rows(table, made) {
  one(table).tBodies[0].replaceChildren(...made.map((cells) => {
    const row = element("tr");
    row.append(...cells);
    return row;
  }));
}

function show(state) {
  one("store").textContent = state.store;
  document.title = `prism-ray ${state.store}`;
  const complete = state.stages.every((stage) => stage.done >= stage.units);
  const driver = state.driver ? state.driver.text : "none";
  one("driver").textContent = state.driver ? `Driver: ${driver}.`
    : complete ? "Complete. No driver is at work." : "Incomplete. No driver is at work.";
  rows("stages", state.stages.map((stage) => [
    element("td", stage.stage), bar(stage.share, stage.stage),
    element("td", `${stage.done} of ${stage.units}`, { className: "number" }),
    element("td", stage.left, { className: "number" }),
  ]));
  const actors = state.live ? state.live.actors : [];
  rows("actors", actors.map((actor) => {
    const unit = actor.units[0];
    return [
      element("td", `${actor.name} on ${actor.host} (${actor.device})`),
      element("td", unit ? unit.unit : "idle"),
      unit && unit.total ? bar(unit.share, unit.unit) : element("td", ""),
      element("td", unit ? unit.text : ""),
    ];
  }));
  one("actors").hidden = actors.length === 0;
  one("idle").hidden = actors.length > 0;
  one("failed").hidden = state.failures.length === 0;
  one("failures").replaceChildren(...state.failures.map(
    (failure) => element("li", `${failure.unit}: ${failure.error}: ${failure.message}`)));
}

function showImages(answer) {
  if (!answer.batch) return;
  one("batch").textContent = answer.batch;
  one("images").replaceChildren(...answer.images.map((image) => {
    const figure = element("figure");
    figure.append(
      element("img", undefined, { src: image.src, alt: `image ${image.ipc} of class ${image.name}` }),
      element("figcaption", image.name));
    return figure;
  }));
}

function draw(id, title, curves, values) {
  const style = getComputedStyle(document.body);
  const sets = [...new Set(Object.keys(curves).map((unit) => unit.split("/")[1]))];
  const seen = new Set();
  const lines = Object.entries(curves).map(([unit, curve]) => {
    const set = unit.split("/")[1];
    const first = !seen.has(set);
    seen.add(set);
    return {
      x: curve.iterations, y: values(curve), name: set, legendgroup: set, showlegend: first, mode: "lines",
      line: { width: 1.5, color: COLOURS[sets.indexOf(set) % COLOURS.length] },
      hovertemplate: "%{y:.4g} at iteration %{x}<extra>%{fullData.name}</extra>",
    };
  });
  const axis = { gridcolor: style.getPropertyValue("--line"), zeroline: false };
  one(id).hidden = false; // before it is drawn, or it has no width
  Plotly.react(id, lines, {
    margin: { l: 60, r: 10, t: 30, b: 40 }, title: { text: title, font: { size: 14 }, x: 0 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: style.color },
    xaxis: axis, yaxis: { ...axis, type: "log", tickformat: ".3~g" },
    legend: { orientation: "h" },
  }, { displayModeBar: false, responsive: true });
}

function showCurves(curves) {
  const count = Object.keys(curves).length;
  if (count === 0) return;
  one("curves-text").textContent = `${count} newest ${count === 1 ? "batch" : "batches"}, a line for each.`;
  draw("ce", "cross-entropy, by iteration", curves, (curve) => curve.ce);
  draw("bn", "BN alignment (mean of R_m), by iteration", curves, (curve) => curve.bn);
}

async function ask(name) {
  const response = await fetch(`/${name}.json`);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}

async function refresh() {
  try {
    const state = await ask("state");
    show(state);
    const now = JSON.stringify(state.newest);
    if (now !== newest) {
      showImages(await ask("images"));
      showCurves(await ask("curves"));
      newest = now;
    }
    one("problem").hidden = true;
  } catch (error) {
    one("problem").textContent = `No answer: ${error.message}. Asking again.`;
    one("problem").hidden = false;
  }
  setTimeout(refresh, EVERY_MS);
}

refresh();
