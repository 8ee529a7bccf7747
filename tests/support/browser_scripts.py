"""What the tests run in the prediction browser's page."""

SCROLL = """new Promise(done => {
  const list = document.getElementById('list'), times = [];
  let most = 0, left = %(frames)d;
  list.scrollTop = 0;
  const frame = () => {
    list.scrollTop += %(by)d;
    const start = performance.now();
    draw();
    list.getBoundingClientRect();
    times.push(performance.now() - start);
    most = Math.max(most, document.querySelectorAll('.row').length);
    if (--left) requestAnimationFrame(frame); else done({times, most, end: list.scrollTop});
  };
  frame();
})"""
# Pixels that a select's box has beyond its text and the arrow (20).
ROOM = """(() => {
  const pen = document.createElement('canvas').getContext('2d');
  return Object.fromEntries(['model', 'vs'].map(id => {
    const select = document.getElementById(id), style = getComputedStyle(select);
    pen.font = style.font;
    const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
    const text = pen.measureText(select.selectedOptions[0].textContent).width;
    return [id, select.clientWidth - padding - 20 - text];
  }));
})()"""
CHANGES = """(() => {
  const times = {};
  const changes = {outcome: {outcome: 'wrong'}, search: {q: 'color lamp'},
    sort: {sort: 'bartscore'}, question: {sort: 'question'}, compare: {vs: 'blip', differ: 'first'},
    metric: {metric: 'wup', min: '0.2', max: '0.6'}, all: {...DEFAULTS}};
  for (const [name, change] of Object.entries(changes)) {
    const start = performance.now();
    set({...DEFAULTS, ...change});
    document.body.offsetHeight;
    times[name] = performance.now() - start;
  }
  return times;
})()"""
