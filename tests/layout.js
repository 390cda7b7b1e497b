// The defects of a page's layout, each with what is wrong, the element, and the text or the sizes in pixels.
() => {
  const defects = [], width = document.documentElement.clientWidth;
  const report = (...defect) => defects.push(defect);
  const describe = element => element.tagName.toLowerCase() + (element.id ? `#${element.id}` : "") + [...element.classList].map(name => `.${name}`).join("");
  const clean = text => text.trim().replace(/\s+/g, " ").slice(0, 60);
  // Text for screen readers has one pixel.
  const shown = element => element.checkVisibility({opacityProperty: true, visibilityProperty: true}) && !element.closest(".hide, .skip") && !(element.closest("thead")?.clientWidth <= 1);
  const styles = new Map();
  const style = element => { if (!styles.has(element)) styles.set(element, getComputedStyle(element)); return styles.get(element); };
  const measure = (text, like) => {
    const ruler = Object.assign(document.createElement("span"), {textContent: text});
    ruler.style.cssText = `position: absolute; visibility: hidden; white-space: pre; font: ${style(like).font}`;
    document.body.append(ruler);
    const needed = ruler.getBoundingClientRect().width;
    ruler.remove();
    return needed;
  };
  const ancestor = (element, test) => { while (element && !test(element)) element = element.parentElement; return element; };
  // Text in these parts may scroll: code, logs, the editor, and the tabs, whose edges fade.
  const scrolls = element => element.closest("pre, textarea, .log, .editor, .tabs");
  // Parts that stay in place while others scroll below them.
  const floats = element => ancestor(element, item => ["sticky", "fixed"].includes(style(item).position));

  if (document.documentElement.scrollWidth > width) report("page scrolls sideways", "", document.documentElement.scrollWidth);
  for (const element of document.querySelectorAll("body *")) {
    if (element instanceof SVGElement || !shown(element) || !element.clientWidth) continue;
    const inner = element.clientWidth - parseFloat(style(element).paddingLeft) - parseFloat(style(element).paddingRight);
    const arrow = 16;
    if (element.localName === "select") {
      const text = clean(element.selectedOptions[0]?.textContent || "");
      if (measure(text, element) > inner - arrow) report("selected text is cut off", describe(element), text);
    } else if (element.localName === "input") {
      // A value may be longer than its field, which scrolls.
      if (!element.value && measure(element.placeholder, element) > inner) report("placeholder is cut off", describe(element), element.placeholder);
    } else if (element.scrollWidth > element.clientWidth + 1 && style(element).overflowX !== "visible" && !scrolls(element)) {
      // A text with an ellipsis has a title.
      if (style(element).textOverflow !== "ellipsis" || !element.closest("[title]") || element.clientWidth < 40) report("text is cut off", describe(element), clean(element.textContent), element.scrollWidth, element.clientWidth);
    }
  }
  const lines = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode, parent = node.parentElement, text = clean(node.textContent);
    if (!text || !shown(parent) || scrolls(parent) || parent.closest("script, style, template, option, title")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const boxes = [...range.getClientRects()].filter(box => box.width);
    if (!boxes.length) continue;
    if (boxes.length > 3 && node.textContent.trim().length / boxes.length < 5) report("lines of single letters", describe(parent), text, boxes.length);
    const hidden = ancestor(parent, item => style(item).textOverflow === "ellipsis");
    const border = ancestor(parent, item => parseFloat(style(item).borderLeftWidth) && parseFloat(style(item).borderRightWidth));
    for (const box of boxes) {
      if (!hidden && (box.right > width || box.left < 0)) report("text is outside of the page", describe(parent), text);
      if (!hidden && border) {
        const frame = border.getBoundingClientRect();
        if (box.left < frame.left + 3 || box.right > frame.right - 3) report("text is outside of its box", describe(border), text, box.left - frame.left, frame.right - box.right);
      }
      if (!hidden) lines.push([box, node, floats(parent)]);
    }
  }
  lines.sort(([a], [b]) => a.top - b.top);
  lines.forEach(([box, node, floating], index) => {
    for (let next = index + 1; next < lines.length && lines[next][0].top < box.bottom - 4; next++) {
      const [other, second, floated] = lines[next];
      if (node !== second && floating === floated && Math.min(box.right, other.right) - Math.max(box.left, other.left) > 2 && Math.min(box.bottom, other.bottom) - other.top > 4) report("texts overlap", clean(node.textContent), clean(second.textContent));
    }
  });
  return defects.slice(0, 20);
}
