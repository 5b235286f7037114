/* Asking: what a change of the scene asks, and what is done with an answer, a refusal and a rest. */

function asking(page, ask) {
  const curves = sweeps(), found = () => redraw(page), wrong = error => refused(page, error);
  const spare = () => page.asking.quietly ? curves.next(page.state, page.axis, found, wrong) : null;
  return {curves, line: questioner(ask, spare), timer: 0, quietly: false, kept: false};
}

/* After every change of the scene; `rebuild` where there are other rules, or more or fewer objects. */
function changed(page, {rebuild = false} = {}) {
  page.asking.kept = false;
  if (rebuild) build(page);
  const {size, priors, objects, rules, chosen, panel_rule, heat} = page.state;
  const now = {objects: objects.map(box => [...box]), rules: [...rules]};
  const question = {size, priors, ...now, chosen, panel_rule, heat, shift: null}, wrong = error => refused(page, error);
  page.asking.line.put({question, heard: (found, id) => heard(page, found, question, id), refused: wrong});
  rest(page);
  later(page);
}

/* What waits until nothing moves any more: the curves, the sentence, the address. */
function rest(page) {
  const {asking, offered} = page;
  asking.quietly = false;
  clearTimeout(asking.timer);
  asking.timer = setTimeout(() => {
    asking.quietly = true;
    asking.line.wake();
    tell(page, asking.line.idle());
    if (offered.url) remember(page.state);
    offered.changed(whole(page.state));
  }, QUIET);
  redraw(page);
}

function redraw(page) {
  page.shown.charts = true;
  later(page);
}

function heard(page, found, question, id) {
  page.answer = {...found, question, number: id};
  page.place = geometry(found.priors.levels);
  if (!page.asking.kept) page.nodes.fault.hidden = true;
  levels(page);
  tell(page, page.asking.line.newest());
  later(page);
}

function refused(page, error) {
  later(page);
  page.nodes.fault.textContent = error.message;
  page.nodes.fault.hidden = false;
  page.asking.quietly = false;
}

async function guarded(page, act) {
  try {
    await act();
  } catch (error) {
    refused(page, error);
    page.asking.kept = true;  // no answer to something else says away what was wrong with an address or a file
  }
}

function remember(state) {
  try {
    history.replaceState(null, "", `#${writeState(state)}`);
  } catch { /* a frame without an address of its own */ }
}

/* In words, once nothing moves any more. */
function tell(page, known) {
  const {say} = page.nodes;
  if (page.asking.quietly && known && say.textContent !== sentence(page)) say.textContent = sentence(page);
}
