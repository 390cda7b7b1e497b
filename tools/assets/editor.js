// The YAML editor of the form, which esbuild bundles with CodeMirror. It runs in a shadow root, where CodeMirror uses
// adopted style sheets: the page's Content-Security-Policy allows no style elements.
// Upstream: codemirror.net/docs/ref, github.com/marijnh/style-mod.
import {autocompletion, completionKeymap, startCompletion} from "@codemirror/autocomplete";
import {history, historyKeymap, indentWithTab, standardKeymap, toggleLineComment} from "@codemirror/commands";
import {HighlightStyle, StreamLanguage, indentUnit, syntaxHighlighting} from "@codemirror/language";
import {lintGutter, setDiagnostics} from "@codemirror/lint";
import {EditorState} from "@codemirror/state";
import {EditorView, drawSelection, highlightActiveLine, keymap, lineNumbers} from "@codemirror/view";
import {tags} from "@lezer/highlight";

// YAML, line by line, for colors and indentation only: the server reads the spec and reports its errors. This and the keys
// below, in place of @codemirror/lang-yaml and the keys for programming languages, make the bundle an eighth smaller.
const QUOTED = {'"': /^(?:[^"\\]|\\.)*"/, "'": /^(?:[^']|'')*'/};
const KEY = /^(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|(?:[^\s#&*!|>%@`"'{}[\],?:-]|[?:-][^\s{}[\],])[^#{}[\],:]*?)(?=\s*:(?:\s|$))/;
const END = /(?=\s*(?:[,\]}]|$|\s#))/.source;
const YAML = StreamLanguage.define({
  startState: () => ({block: -1, quote: ""}),
  token(stream, state) {
    if (stream.sol() && state.block >= 0) {
      if (stream.indentation() > state.block) { stream.skipToEnd(); return "string"; }
      state.block = -1;
    }
    if (!state.quote && stream.peek() === "#" && (stream.sol() || /\s/.test(stream.string[stream.pos - 1]))) { stream.skipToEnd(); return "comment"; }
    if (!state.quote && stream.eatSpace()) return null;
    if (!state.quote && stream.match(KEY)) return "propertyName";
    const quote = state.quote || stream.eat(/["']/);
    if (quote) {
      state.quote = stream.match(QUOTED[quote]) ? "" : quote;
      if (state.quote) stream.skipToEnd();
      return "string";
    }
    if (stream.match(/^[|>][-+\d]*(?=\s*(?:#|$))/)) {
      state.block = /^\s*(?:-\s+(?![|>]))*/.exec(stream.string)[0].length;
      return "punctuation";
    }
    if (stream.match(/^[&*!][^\s,[\]{}]*/)) return "keyword";
    if (stream.match(/^(?:---|[[\]{},]|[:?-](?=\s|$))/)) return "punctuation";
    if (stream.match(RegExp(`^(?:true|false|null|~)${END}`))) return "atom";
    if (stream.match(RegExp(`^[-+]?(?:\\d+\\.?\\d*|\\.\\d+)(?:e[-+]?\\d+)?${END}`, "i"))) return "number";
    // A plain text, up to a comment or the end of a flow item.
    if (!stream.match(/^(?:[^\s,[\]{}]|\s+(?![#\s]))+/)) stream.next();
    return null;
  },
  // A new line continues the block of the line above, also if that one starts with the dash of a list.
  indent(state, after, context) {
    const {text} = context.lineAt(context.pos, -1);
    return /^\s*(?:-\s+)*(?=[\w.-]+\s*:)|^\s*/.exec(text)[0].length + (/\s[|>][-+\d]*\s*$/.test(text) ? context.unit : 0);
  },
  languageData: {commentTokens: {line: "#"}},
});
const COLORS = HighlightStyle.define([
  {tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--y-key)"},
  {tag: [tags.string, tags.special(tags.string)], color: "var(--y-text)"},
  {tag: [tags.number, tags.bool, tags.null, tags.keyword, tags.atom], color: "var(--y-number)"},
  {tag: [tags.comment, tags.lineComment], color: "var(--soft)", fontStyle: "italic"},
  {tag: [tags.punctuation, tags.separator, tags.squareBracket, tags.brace], color: "var(--soft)"},
]);
const THEME = EditorView.theme({
  "&": {color: "var(--text)", fontSize: "12.5px"},
  "&.cm-focused": {outline: "none"},
  ".cm-scroller": {fontFamily: "var(--mono)", lineHeight: "18px"},
  ".cm-content": {caretColor: "var(--text)", padding: "8px 0"},
  ".cm-cursor": {borderLeftColor: "var(--text)"},
  ".cm-gutters": {background: "none", color: "var(--soft)", border: "0"},
  ".cm-activeLine": {background: "color-mix(in srgb, var(--accent) 7%, transparent)"},
  ".cm-selectionBackground, &.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": {background: "color-mix(in srgb, var(--accent) 26%, transparent)"},
  ".cm-tooltip": {background: "var(--card)", color: "var(--text)", border: "1px solid var(--line)", borderRadius: "6px"},
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": {background: "var(--accent)", color: "var(--on-accent)"},
  ".cm-completionInfo": {maxWidth: "320px", padding: "6px 10px", font: "13px/18px var(--sans)"},
  ".cm-diagnostic": {font: "13px/18px var(--sans)"},
});

// The keys above a line, from the outermost one, by indentation; the items of a list are at the level of the list.
function parents(doc, number, indent) {
  const path = [];
  for (let at = number - 1; at > 0 && indent > 0; at--) {
    const [, space, dash, key] = /^(\s*)((?:-\s+)*)([\w.-]+)\s*:/.exec(doc.line(at).text) || [];
    if (key === undefined) continue;
    const column = space.length + dash.length;
    if (column < indent) { path.unshift(key); indent = dash ? space.length + (space.length ? 0 : 1) : column; }
  }
  return path;
}
function children(tree, path) {
  let fields = tree;
  for (const key of path) fields = fields?.[key]?.[2];
  return fields;
}
// Offers the fields of the block at the cursor, or the values of the field on its line. A field is [help, values, fields].
function complete(tree) {
  return context => {
    const line = context.state.doc.lineAt(context.pos), before = line.text.slice(0, context.pos - line.from);
    const value = /^(\s*(?:-\s+)*)([\w.-]+):\s+([\w.-]*)$/.exec(before);
    const name = /^(\s*(?:-\s+)*)([\w.-]*)$/.exec(before);
    if (!value && !name || (value || name)[0].includes("#")) return null;
    const [, lead, word] = value || name;
    const fields = children(tree, parents(context.state.doc, line.number, lead.length));
    if (!fields) return null;
    if (value) {
      const values = fields[word]?.[1] || [];
      return values.length ? {from: context.pos - value[3].length, options: values.map(label => ({label, type: "enum"})), validFor: /^[\w.-]*$/} : null;
    }
    if (!word && !context.explicit) return null;
    const options = Object.entries(fields).map(([label, [info, , inner]]) => ({
      label, info: info || undefined, type: "property", apply: inner ? `${label}:\n${" ".repeat(lead.length + 2)}` : `${label}: `,
    }));
    return {from: context.pos - word.length, options, validFor: /^[\w.-]*$/};
  };
}

// Show an editor in `host` with the text of `textarea`, which keeps the value of the form.
export function edit(host, textarea, tree) {
  const root = host.shadowRoot || host.attachShadow({mode: "open"});
  const view = new EditorView({
    root, parent: root,
    state: EditorState.create({
      doc: textarea.value,
      extensions: [
        lineNumbers(), EditorView.lineWrapping, history(), drawSelection(), highlightActiveLine(), YAML, syntaxHighlighting(COLORS), THEME, lintGutter(),
        indentUnit.of("  "), EditorState.tabSize.of(2), autocompletion({override: [complete(tree)], icons: false}),
        // After Escape, Tab leaves the editor, also if Escape does something else too.
        keymap.of([{key: "Escape", run: one => { one.setTabFocusMode(10000); return false; }}]),
        keymap.of([...completionKeymap, ...standardKeymap, ...historyKeymap, indentWithTab, {key: "Mod-/", run: toggleLineComment}, {key: "Ctrl-Space", run: startCompletion}]),
        // Where text replaces highlighted text, Chrome keeps the colors as a style attribute, which the page's policy refuses.
        EditorView.domEventHandlers({beforeinput(event, one) {
          if (event.inputType !== "insertText" || event.data === null || event.isComposing || one.state.selection.main.empty) return false;
          event.preventDefault();
          one.dispatch(one.state.replaceSelection(event.data), {userEvent: "input.type", scrollIntoView: true});
          return true;
        }}),
        EditorView.contentAttributes.of({"aria-label": textarea.getAttribute("aria-label"), spellcheck: "false", autocapitalize: "off"}),
        EditorView.updateListener.of(update => {
          if (!update.docChanged || update.transactions.some(one => one.isUserEvent("sync"))) return;
          textarea.value = update.state.doc.toString();
          textarea.dispatchEvent(new Event("input", {bubbles: true}));
        }),
      ],
    }),
  });
  return {
    focus: () => view.focus(),
    place: (start, end) => view.dispatch({selection: {anchor: Math.min(start, view.state.doc.length), head: Math.min(end, view.state.doc.length)}, scrollIntoView: true}),
    // Take over a text that the form has changed; only the part that differs, so that the cursor stays.
    sync(text) {
      const old = view.state.doc.toString();
      if (old === text) return;
      let start = 0, end = old.length, fresh = text.length;
      while (start < end && start < fresh && old[start] === text[start]) start++;
      while (end > start && fresh > start && old[end - 1] === text[fresh - 1]) { end--; fresh--; }
      view.dispatch({changes: {from: start, to: end, insert: text.slice(start, fresh)}, userEvent: "sync"});
    },
    // Mark lines: [{line, severity, message}].
    mark(problems) {
      const {doc} = view.state;
      view.dispatch(setDiagnostics(view.state, problems.filter(one => one.line <= doc.lines).map(({line, severity, message}) => {
        const {from, to, text} = doc.line(line);
        return {from: from + text.length - text.trimStart().length, to, severity: severity === "error" ? "error" : "warning", message};
      })));
    },
    select(number) {
      const {from, to} = view.state.doc.line(Math.min(number, view.state.doc.lines));
      view.dispatch({selection: {anchor: from, head: to}, effects: EditorView.scrollIntoView(from, {y: "center"})});
      view.focus();
    },
  };
}
