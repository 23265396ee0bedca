import json,sys; sys.path.insert(0,'experiments')
from words_curve import *
F={}; O={}
for k in 'ab':
    F.update(json.load(open(f'/work/scratch/words/held_{k}.json'))['results']); O.update(json.load(open(f'/work/scratch/words/final_{k}.json'))['results'])
pt=lambda q: RatePoint(**q)
for n,o in O.items():
    print(n,'K',o['channels'],'frames',o['train_frames'],'fit cpu',o['fit_cpu_s'],'(windows',o['windows_cpu_s'],') speed',{p:v['ms'] for p,v in o['speed']['encode_ms'].items()},'l1',{p:round(v['l1'],5) for p,v in o['speed']['encode_ms'].items()},'tok',round(o['speed']['encode_ms']['4']['tokens'],1),'dec',o['speed']['decode_ms'])
    for T,h in o['horizons'].items():
        if n not in F or T not in F[n]['horizons']: continue
        f={z:[pt(q) for q in p] for z,p in F[n]['horizons'][T]['fast'].items()}; w=[pt(q) for q in h['words']]
        c=curve_of(w,f,int(T)); cc=curve_of(w,{'centre':f['centre']},int(T))
        g=lambda row,fig: '-' if fig not in row or row[fig]['words'] is None else f"{row[fig]['words']:.4g}" + ('' if row[fig]['ratio'] is None else f" ({row[fig]['ratio']:.2f})")
        for fig in FIGURES:
            if any(fig in r for r in c): print('  T',T,fig,' | '.join(g(r,fig) for r in c), '   over centred FAST: '+' '.join('-' if fig not in r or r[fig]['ratio'] is None else f"{r[fig]['ratio']:.2f}" for r in cc) if fig=='l1' else '')
        print('   steady',[(s['rate'],{k:(round(v['words'],3),round(v['residuals'],3)) for k,v in s.items() if isinstance(v,dict)}) for s in h['steadiness']])
