(() => {
"use strict";
// The contents follow the scroll.
const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
const headings = [...links.keys()].map((id) => document.getElementById(decodeURIComponent(id)));

function follow() {
  const line = innerHeight * 0.25;
  const passed = headings.filter((heading) => heading.getBoundingClientRect().top <= line);
  const current = passed.at(-1) ?? headings[0];
  for (const heading of headings) {
    const link = links.get(encodeURIComponent(heading.id)) ?? links.get(heading.id);
    if (heading === current) link?.setAttribute("aria-current", "true");
    else link?.removeAttribute("aria-current");
  }
}

if (headings.length) {
  let due = false;
  addEventListener("scroll", () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      follow();
    });
  }, { passive: true });
  follow();
}

// What scrolls sideways shows that there is more; the current page is in sight among the pages.
for (const frame of document.querySelectorAll(".frame, .scroll")) {
  const mark = () => frame.classList.toggle("more", frame.scrollLeft + frame.clientWidth < frame.scrollWidth - 2);
  frame.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(frame);
}
document.querySelector(".bar a[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

// A link to code unfolds it.
addEventListener("click", (event) => {
  const hash = event.target.closest?.('a[href^="#code-"]')?.hash;
  if (hash) document.getElementById(hash.slice(1)).open = true;
});
})();
