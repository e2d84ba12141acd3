'use strict';

const SVG = 'http://www.w3.org/2000/svg';
const NEAR = 14; // pixels from the pointer to the text it asks for

for (const figure of document.querySelectorAll('.map')) {
  drawMap(figure, JSON.parse(figure.querySelector('script').textContent));
}

// data: texts, views {name, places, bar, caption}, and groups
// {name, labels, of}: `of` has each text's place in `labels`.
function drawMap(figure, data) {
  const svg = figure.querySelector('svg');
  const tip = figure.querySelector('.tip');
  const legend = figure.querySelector('.legend');
  const group = chooser(figure.querySelector('[name=group]'), data.groups);
  const view = chooser(figure.querySelector('[name=view]'), data.views);
  const bar = svg.appendChild(document.createElementNS(SVG, 'path'));
  const circles = data.texts.map(() => {
    const circle = svg.appendChild(document.createElementNS(SVG, 'circle'));
    circle.setAttribute('r', 3.5);
    return circle;
  });
  bar.setAttribute('stroke', 'var(--ink)');
  let chosen = null;

  function place() {
    const { places, bar: length, caption } = view();
    const { width, height } = svg.viewBox.baseVal;
    const [left, right] = range(places.map((point) => point[0]));
    const [low, high] = range(places.map((point) => point[1]));
    const scale = Math.min(
      (width - 40) / (right - left || 1), (height - 40) / (high - low || 1));
    circles.forEach((circle, n) => {
      const [x, y] = places[n];
      circle.setAttribute('cx', width / 2 + scale * (x - (left + right) / 2));
      circle.setAttribute('cy', height / 2 - scale * (y - (low + high) / 2));
    });
    bar.setAttribute(
      'd', length ? `M12 ${height - 10}h${scale * length}` : '');
    figure.querySelector('figcaption').textContent = caption;
  }

  function paint() {
    const { labels, of } = group();
    circles.forEach((circle, n) => {
      circle.style.fill = colour(of[n]);
      circle.classList.toggle('off', chosen !== null && of[n] !== chosen);
    });
    legend.replaceChildren(...labels.map((label, n) => {
      const button = document.createElement('button');
      const dot = document.createElement('i');
      dot.style.background = colour(n);
      button.append(dot, label);
      button.setAttribute('aria-pressed', chosen === n);
      button.addEventListener('click', () => {
        chosen = chosen === n ? null : n;
        paint();
      });
      return button;
    }));
  }

  // The nearest text to the pointer, so that a finger finds one too.
  function ask(event) {
    let found = -1;
    let least = NEAR;
    circles.forEach((circle, n) => {
      const box = circle.getBoundingClientRect();
      const away = Math.hypot(
        event.clientX - box.x - box.width / 2,
        event.clientY - box.y - box.height / 2);
      if (away < least && !circle.classList.contains('off')) {
        [found, least] = [n, away];
      }
    });
    circles.forEach((circle, n) => circle.classList.toggle('here', n === found));
    tip.hidden = found < 0;
    if (found < 0) return;
    const { labels, of } = group();
    tip.textContent = `${data.texts[found]} (${labels[of[found]]})`;
    const frame = svg.getBoundingClientRect();
    const x = event.clientX - frame.x;
    const y = event.clientY - frame.y;
    tip.style.left = x < frame.width / 2 ? `${x + 14}px` : 'auto';
    tip.style.right = x < frame.width / 2 ? 'auto' : `${frame.width - x + 14}px`;
    tip.style.top = `${y + 10}px`;
  }

  svg.addEventListener('pointermove', ask);
  svg.addEventListener('pointerdown', ask);
  svg.addEventListener('pointerleave', () => {
    tip.hidden = true;
    circles.forEach((circle) => circle.classList.remove('here'));
  });
  figure.querySelector('[name=view]').addEventListener('change', place);
  figure.querySelector('[name=group]').addEventListener('change', () => {
    chosen = null;
    paint();
  });
  place();
  paint();
}

// Fills a <select> with names; returns what gives the chosen entry.
function chooser(select, entries) {
  select.append(...entries.map((entry, n) => new Option(entry.name, n)));
  select.parentElement.hidden = entries.length < 2;
  return () => entries[select.value];
}

function range(values) {
  return [Math.min(...values), Math.max(...values)];
}

// The colours of the page, and grey for what has none.
function colour(n) {
  return `var(--c${n}, var(--rest))`;
}
