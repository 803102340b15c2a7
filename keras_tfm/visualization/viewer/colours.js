// Colours of heads and scores, for a light and a dark page.

const darkScheme = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return !isPrinting && (document.documentElement.dataset.theme ?? (darkScheme.matches ? "dark" : "light")) === "dark";
}

let isPrinting = false;

function headColour(head) {
  if (head < page.colours.length) return page.colours[head];
  return `hsl(${Math.round(head * 137.508) % 360} 60% 52%)`;
}

const SCALES = {
  light: [[255, 255, 255], [158, 197, 226], [33, 104, 168], [10, 48, 96]],
  dark: [[24, 28, 35], [38, 84, 128], [86, 160, 211], [222, 242, 255]],
};

/** The colour of a share of the highest score, as [red, green, blue]. */
function scoreColour(share) {
  const scale = SCALES[isDark() ? "dark" : "light"];
  const place = Math.min(Math.max(share, 0), 1) * (scale.length - 1);
  const index = Math.min(Math.floor(place), scale.length - 2);
  return scale[index].map((from, i) => Math.round(from + (scale[index + 1][i] - from) * (place - index)));
}

/** Orange for what is positive, blue for what is negative; `share` is in -1 to 1. */
function signedColour(share) {
  const strength = Math.min(Math.abs(share), 1) ** 0.7;
  return `rgb(${share > 0 ? "224 122 24" : "44 120 196"} / ${strength.toFixed(3)})`;
}

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function startTheme(button, redraw) {
  const themes = ["system", "light", "dark"];
  let chosen = 0;
  button.addEventListener("click", () => {
    chosen = (chosen + 1) % themes.length;
    if (chosen) document.documentElement.dataset.theme = themes[chosen];
    else delete document.documentElement.dataset.theme;
    button.textContent = `◐ ${themes[chosen]}`;
    button.setAttribute("aria-label", `Colours: ${chosen ? themes[chosen] : "as the system has them"}`);
    redraw();
  });
  darkScheme.addEventListener("change", redraw);
  for (const [name, value] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(name, () => {
      isPrinting = value;
      document.documentElement.classList.toggle("printing", value);
      redraw();
    });
  }
}
