// Undo and redo of what a person changed on the page.

const done = [];
const undone = [];
const LIMIT = 200;

/** Does a change and keeps how to take it back: both are functions, maybe async. Changes of one `group` in a row are one. */
export async function change(apply, revert, { group = null } = {}) {
  await apply();
  const before = done.at(-1);
  if (group !== null && before?.group === group && Date.now() - before.at < 1500) Object.assign(before, { apply, at: Date.now() });
  else done.push({ apply, revert, group, at: Date.now() });
  if (done.length > LIMIT) done.shift();
  undone.length = 0;
}

export async function undo() {
  const item = done.pop();
  if (item === undefined) return false;
  await item.revert();
  undone.push(item);
  return true;
}

export async function redo() {
  const item = undone.pop();
  if (item === undefined) return false;
  await item.apply();
  done.push(item);
  return true;
}

/** Forgets all changes, when another film is opened. */
export function forget() {
  done.length = undone.length = 0;
}
