// Undo and redo of what a person changed on the page.

let done = [], undone = []; // others once the view is left: what is under way then belongs to these no more
const LIMIT = 200;

/** Does a change and keeps how to take it back: both are functions, maybe async. Changes of one `group` in a row are one. */
export async function change(apply, revert, { group = null } = {}) {
  const mine = done;
  await apply();
  if (mine !== done) return;
  const before = done.at(-1);
  if (group !== null && before?.group === group && Date.now() - before.at < 1500) Object.assign(before, { apply, at: Date.now() });
  else done.push({ apply, revert, group, at: Date.now() });
  if (done.length > LIMIT) done.shift();
  undone.length = 0;
}

let turn = Promise.resolve();

/** Moves the newest change from one list to the other, after `act(change)`; one after the other. What fails stays where it is. */
function move(lists, act) {
  const moved = async () => {
    const [from, to] = lists(), item = from.at(-1);
    if (item === undefined) return;
    await act(item);
    if (from.includes(item)) to.push(...from.splice(from.indexOf(item), 1)); // else it was pushed out meanwhile
  };
  return turn = turn.then(moved, moved);
}

export const undo = () => move(() => [done, undone], (item) => item.revert());
export const redo = () => move(() => [undone, done], (item) => item.apply());

/** Forgets all changes, when a view is left. */
export function forget() {
  done = [];
  undone = [];
  turn = Promise.resolve(); // one that never ends holds up none of the next view
}
