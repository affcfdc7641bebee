"""The document filters, rule by rule: real text they wrongly drop, and planted junk they catch.

    .venv/bin/python -m benchmarks.filters --shared=DATA --show=5

DATA holds IgakuQA/, JMED-LLM/ and text/. The junk is made from those pages and from the phrases below, which were
written before the filters were run for the first time. hojichar's filters are measured beside the rules.
"""

import argparse
import csv
import gzip
import inspect
import json
import random
import re
from itertools import accumulate, chain
from pathlib import Path

from hojichar import Document
from hojichar.filters import document_filters as hojichar

from slm import sample
from slm.text import filters
from slm.text.bigram_pmi import BigramPMI
from slm.text.morphology import Morphology
from slm.text.normalize import normalize
from slm.text.segmented_text import SegmentedText

HOME = {"IgakuQA": "clinical", "CRADE": "clinical", "Wikipedia": "encyclopedia", "leads": "encyclopedia",
        "Aozora": "literature"}  # the profile of each set of real texts; all are judged as "web", too
sentences = re.compile(r"[^。.\n]+[。.\n]*").findall
HOJICHAR = ("AcceptJapanese", "DiscardAdultContentJa", "DiscardAdultContentEn", "DiscardAds", "DiscardBBSComments",
            "DiscardViolenceContentJa", "DiscardDiscriminationContentJa",  # these seven: its profile for CC-100
            "DocumentLengthFilter", "DiscardRareKuten", "DiscardTooShortLines", "DiscardTooManyEndingEllipsis",
            "CharRepetitionRatioFilter", "SingleCharacterRepetitionFilter")
SPECKS = "・.,'`|:;~-■ 丶丿亅乂匕"
# The name first in each; {name} in a phrase stands for one of WORDS.
WORDS = {name: words for name, *words in (text.split() for text in """
asked 口コミ 評判 比較 安い おすすめ 相場 料金 ランキング 無料 業者| city 札幌 仙台 大宮 池袋 新宿 渋谷 横浜 川崎 千葉
静岡 名古屋 京都 梅田 難波 神戸 岡山 広島 高松 博多 熊本 那覇| girl 美咲 ゆい あかり れな 麻衣 さくら みゆ 優子 しおり
かれん ひなの 真由美 彩 のぞみ りお| age 20 21 22 23 24 25 27 28 31 34 38 42| n 2 3 4 5 7 8 10 12 15 20 30 50 80 98 120
300| yen 980 1,280 1,980 2,480 2,980 3,980 4,980 6,800 8,800 9,800 12,800 19,800 29,800| tag 人妻 熟女 素人 巨乳 美乳
爆乳 OL ナース コスプレ 中出し 無修正 ハメ撮り 潮吹き フェラ 手コキ 痴女 乱交 3P 不倫 寝取られ 盗撮風 アナル SM 調教
オナニー クンニ 顔射 美尻 パイズリ 企画 単体作品 独占配信 ハイビジョン VR 4時間以上 淫語 ギャル スレンダー 女教師 義母
温泉 マッサージ ローション 電マ 露出 逆ナンパ 個人撮影 流出 モザイク破壊 エロ動画 無料動画 アダルト| item
レディースバッグ スニーカー ワイヤレスイヤホン 電気ケトル 羽毛布団 腕時計 財布 スマホケース 加湿器 ワンピース|
supplement 青汁 酵素ドリンク コラーゲン プラセンタ 黒酢にんにく 乳酸菌サプリ すっぽんサプリ DHA&EPA 葉酸サプリ| service
外壁塗装 車買取 脱毛サロン 引っ越し業者 水漏れ修理 パーソナルジム 不用品回収 英会話スクール 結婚相談所 遺品整理| nav
ホーム 会社概要 お問い合わせ サイトマップ プライバシーポリシー 利用規約 採用情報 よくあるご質問 ニュース アクセス
English 新着情報 ログイン 新規会員登録 カート マイページ お気に入り 特定商取引法に基づく表記 運営会社 広告掲載 ヘルプ
カテゴリー一覧 前へ 次へ ページトップへ戻る RSS Twitter Facebook シェアする 印刷する 文字サイズ 小 中 大 ランキング
タグ一覧 月別アーカイブ 検索| nouns ユーザー 製品 健康 市場 私 彼 家 犬 水 会社 政府 方法 時間 世界 質問 体重
インターネット 人々 子供 経験| verbs 持っている 取る 作る 与える 見つける 行く 必要とする 働く 購入する 信じる 使用する
改善する 助ける 走る| adjectives 良い 大きな 安い 重要な 利用可能な 最高の 簡単な 新しい 異なる 特定の 自由な 困難な|
glue の のに ために そして しかし 上に 中に によって とともに それは もし なぜなら である ことができる 非常に すべての
任意の| station 新宿 三鷹 立川 八王子 大月 甲府 東京 品川 横浜 小田原 熱海 沼津 大宮 高崎 宇都宮 各停 快速 特急 急行
準急| team 巨人 阪神 広島 中日 横浜 浦和 鹿島 柏 清水 磐田 川崎 神戸 札幌 大分""".strip().split("|"))}
PHRASES = {name: phrases for name, *phrases in (text.split("|") for text in """
adult video|【無修正】{girl}({age})の本気イキ!清楚な顔して腰が止まらない{n}分ノーカット|上品な人妻が旦那の出張中に若い男
を連れ込み、朝まで何度も求め合う一部始終をご覧ください。|Fカップ美女{girl}ちゃんがカメラの前でおっぱいを揺らしながら乱れ
まくり!|街で声をかけた素人娘、最初は恥ずかしがっていたのに気がつけば自分から上に…|サンプル動画はこちら、フルバージョン
は会員登録後にダウンロードできます(18歳未満閲覧禁止)|{girl}さん{age}歳、夫とは{n}年ご無沙汰で体が疼いて仕方がないとのこ
と。|当サイトはアダルトコンテンツを含みます。18歳未満の方はご退出ください。|ぬるぬるローションで密着、たまらず生で挿入し
てたっぷり中出ししちゃいました。|本日の新着エロ動画{n}本を更新、他社よりも安い月額{yen}円から。|密室で二人きり、先輩OL {
girl}の誘惑に理性が崩壊する濃厚な一夜を完全収録。##adult shop|{city}デリヘル「とろける人妻」 60分{yen}円~ 交通費無料・ホ
テル待ち合わせOK|新人{girl}ちゃん({age}) T158 B88(F) W58 H86 本日出勤 18:00-LAST|メンズエステ {city}の隠れ家サロン、極上
の鼠径部リンパと密着オイルで身も心も昇天。|セラピスト{girl}は色白スレンダー、甘えん坊でイチャイチャ大好きなお姉さんです
。|即尺・Dキス・69・素股が基本プレイ、オプションのAFは別途{yen}円となります。|{city}駅徒歩{n}分のソープランド、総額{yen}
円ポッキリのイベント開催中!|当店自慢の美女が全裸でお出迎え、最後は濃厚サービスでスッキリしてください。|ご新規様は{yen}円
OFF、ネット予約はLINEで24時間受付中。|出張マッサージ、ビジネスホテル派遣もお任せください。本番行為は固くお断りします。|
女性キャスト大募集、日給{n}万円以上可、未経験・人妻さん大歓迎。##adult dating|今夜会えるセフレ募集掲示板、{city}の女性会
員{n}名がオンライン中です。|割り切りで{n}万円お願いしたいです、ホ別でゴムありなら何でもします。|突然のメールごめんなさい
、{girl}と言います。主人に内緒で大人の関係になれる方を探しています。|ポイント購入なしで直アド交換、完全無料の出会い系サ
イトはこちら。|逆援助交際、{age}歳の社長夫人があなたに{n}0万円を差し上げます。|寂しい夜は一緒にエッチなチャットしません
か?ライブで見せちゃう(はぁと)|この前会った子は簡単にホテルまで行けて、即エッチできました。マジで穴場。##adult link|▶ {g
irl}の{tag}{tag}動画まとめ {n}選|【{tag}】{girl}({age}) {tag}で{tag}… 画像{n}枚|{tag}×{tag} 無料サンプル http://xx{n}.
example/{n}{age}.html|{city}の{tag} {tag}店ランキング|素人{tag}投稿 No.{n}{age} {girl}|エロ画像{n}枚 {tag}な{girl}の{tag
}姿##ads shop|{item}【送料無料】【あす楽】【ポイント{n}倍】 {yen}円(税込)|只今タイムセール開催中!{n}%OFFは今夜23:59まで
、お見逃しなく。|カートに入れる お気に入りに追加 在庫:残り{n}点|楽天ランキング{n}部門で1位を獲得した大人気の{item}がつい
に再入荷しました。|サイズ:S/M/L/LL カラー:ブラック、ベージュ、ネイビー 素材:ポリエステル100%|レビューを書いて{yen}円クー
ポンをプレゼント!|お支払いはクレジットカード、代金引換、銀行振込、コンビニ決済がご利用いただけます。|{yen}円以上のお買い
上げで全国送料無料(沖縄・離島を除く)|この商品を買った人はこんな商品も買っています {item} {yen}円##ads supplement|飲むだ
けで{n}kg減!?話題の{supplement}が今なら初回限定{yen}円|たった{n}日でウエスト-{n}cm、もうリバウンドに悩みません!|「最初は
半信半疑でしたが、{n}週間で周りから若返ったねと言われました」({age}代・主婦)|※個人の感想であり、効果・効能を保証するも
のではありません。|医師も推薦する{supplement}、累計販売{n}万袋突破の実力をお試しください。|定期コースなら毎月{yen}円、い
つでも解約OK、全額返金保証つき。|お申し込みは今すぐ!公式サイト限定のお得なキャンペーンはこちらをクリック|厳選した{n}種類
の成分をぎゅっと凝縮、忙しいあなたの美容と健康をサポートします。##ads affiliate|【{n}社を徹底比較】{city}でおすすめの{se
rvice}ランキング|第{n}位 口コミ評価★★★★☆ {service}の{city}店 料金:{yen}円~|▼公式サイトで詳細を見る▼|{service}選び
で失敗しないためのポイントを{n}つご紹介しますので、ぜひ参考にしてください。|いかがでしたか?今回は{city}の{service}につい
てまとめてみました。|無料の一括見積もりなら最大{n}社から最安値がたった1分でわかります。|管理人も実際に申し込んでみました
が、コスパ最強でイチオシです!|{service}の評判は?怪しい?口コミを調べてみた結果|クーポンコード【SALE{n}】の入力で{yen}円引
き、有効期限は今月末まで。|今だけ入会金無料&Amazonギフト券{yen}円分がもらえるキャンペーン中。##gambling|オンラインカジノ
初回入金ボーナス{n}0%、今なら登録だけで$30もらえる!|パチスロ設定6の見抜き方を{yen}円で完全公開、勝率{n}%の攻略法を伝授し
ます。|スマホをタップするだけで月収{n}0万円、誰でもできる簡単な副業です。|{city}在住の主婦{girl}さんは、わずか{n}日で{n}
0万円を稼ぎました!|LINE友だち追加で即金{n}万円プレゼント、受け取りは今すぐこちら|競馬予想の神、先週も万馬券{n}本的中!無
料買い目を公開中。|ブラックOK・審査なし・即日融資、来店不要で{n}0万円まで振り込みます。|仮想通貨の自動売買ツールが{n}名
限定で無料配布、放置で資産が{n}倍に。|バカラ、ルーレット、スロットなど{n}00種類以上のゲームで一攫千金を狙え。|FXで借金{n
}00万円から億トレーダーになった私が教える必勝の手法。|クレジットカード現金化は換金率{n}%保証、最短5分でお振込み。|ロト6
の当選番号を事前に予測するソフト、当たらなければ全額返金。##boilerplate|Copyright © 20{age} {city}株式会社 All Rights Re
served.|当サイトではクッキー(Cookie)を使用しています。引き続き閲覧する場合、Cookieの使用に同意したものとみなされます。|
本サイトに掲載されている記事・写真・イラストの無断転載を禁じます。|このサイトはJavaScriptを有効にしてご覧ください。|〒1{
age}-00{age} {city}市中央区本町{n}-{n} TEL:03-{n}{age}-{n}{n} FAX:03-{n}{age}-{n}{age}|トップページ > カテゴリー > {item
} > 詳細|このブログを読者登録する コメント({n}) トラックバック(0)|PDFファイルの閲覧には、Adobe Readerが必要です。|関連記
事 人気記事 最近の投稿 20{age}年{n}月({n}) 20{age}年{n}月({n})|ログインIDとパスワードを入力してください。パスワードをお
忘れの方はこちら|前のページ 1 2 3 4 5 … {n} 次のページ 全{n}{n}件##code|<script type="text/javascript">var _gaq = _gaq ?
? []; _gaq.push(['_setAccount', 'UA-{n}{age}-{n}']);</script>|<div class="col-md-{n} clearfix" style="margin:0 auto;padd
ing:{n}px"><a href="/item/{n}.html">|function init{n}(e){ if(!document.getElementById("main{n}")){ return false; } e.sty
le.display="none"; }|&nbsp;&nbsp;&gt;&gt; &amp;copy; <img src="/img/btn_{n}.gif" alt="" width="{n}" height="{age}" />|</
td></tr></table></div><!-- /#contents{n} --><br clear="all">##chinese|{n}年来,我国经济社会发展取得了历史性成就,人民生活
水平不断提高。|请输入您的用户名和密码登录,如果忘记密码,请点击这里找回。|本公司专业生产各类机械设备,产品远销欧美、东南亚
等{n}多个国家和地区。|患者应当在医生的指导下服用药物,不要自行增加或减少剂量。|欢迎来到我们的网站,您可以在这里找到最新的
电影和电视剧在线观看。|研究人员发现,这种方法可以显著降低成本,并且提高工作效率约{n}%。|他站在窗前,看着外面的雨,心里想着很
久以前发生的那些事情。|這座城市的歷史可以追溯到{n}00年前,當時只是一個小小的漁村。##table|{n}{age}{n},{item},{n}00,{age},
{city},20{age}-0{age},{n}|{age}:{age} {station} {station} {n}番線|20{age}-05-{age} 0{n}:{age}:{age} GET /page/{n}{age}.h
tml 200 {n}{age}{n} ユーザー{n}|{team} {n}-{n} {team} 観客{n}{age}{age}人|{item} {yen}円 {item} {yen}円 在庫{n}
""".replace("\n", "").split("##"))}


def cut(lines: list[str], size: int) -> str:
    """The first of `lines` until they hold `size` characters."""
    return "\n".join(line for line, before in zip(lines, accumulate(map(len, lines), initial=0)) if before < size)


class Writer(random.Random):
    """Writes one document of a kind; `real` is an excerpt, up to 1,500 characters of lines of a real page."""

    def fill(self, phrase: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda slot: self.choice(WORDS[slot[1]]), phrase)

    def lines(self, *sections: str) -> list[str]:
        """Every phrase of the sections once, links and code three times, filled and in any order."""
        phrases = [p for name in sections for p in PHRASES[name] * {"adult link": 3, "code": 3}.get(name, 1)]
        return self.sample([self.fill(phrase) for phrase in phrases], len(phrases))

    def forms(self, topic: str, most: int, longest: int) -> str:
        names = [name for name in PHRASES if name.startswith(topic)]
        return cut(self.lines(*self.sample(names, self.randint(1, most))), self.randint(300, longest))

    def excerpt(self, pages: list[str]) -> str:
        lines = self.choice(pages).split("\n")
        return cut(lines[self.randrange(max(1, len(lines) - 15)):], self.randint(300, 1200))[:1500]

    def adult(self) -> str:
        if self.random() < 0.2:
            return self.choice((" ", "、", " / ", "\n#")).join(self.choices(WORDS["tag"], k=self.randint(80, 250)))
        return self.forms("adult", 3, 1450)

    def adult_half(self, real: str) -> str:
        both = cut(self.adult().split("\n"), len(real)).split("\n") + real.split("\n")
        return "\n".join(self.sample(both, len(both)) if self.random() < 0.5 else both)

    def boilerplate(self, real: str) -> str:
        nav = self.choice(("\n", " | ", " ")).join(self.sample(WORDS["nav"], self.randint(12, len(WORDS["nav"]))))
        parts = [nav, real[:self.randint(0, 80)], self.forms("boilerplate", 1, 600)]
        return "\n".join(parts if self.random() < 0.7 else parts[::-1])

    def repeated(self, real: str) -> str:
        form, service = self.randrange(4), self.choice(WORDS["service"])
        if form < 2:
            return "\n".join([real[:400]] * self.randint(3, 8) if form else
                             self.choices(real.split("\n")[:4], k=self.randint(15, 40)))
        if form == 2:
            return " ".join(self.fill(f"{{city}} {service} {{asked}}") for _ in range(60))
        return "\n".join(f"{city}で{service}をお探しの方へ、{city}の{service}なら当社にお任せください。"
                         for city in self.sample(WORDS["city"], 18))

    def html(self, real: str) -> str:
        lines = [f'<p class="t{i}">{text.strip()}</p>' if self.random() < 0.5 else f"<li>{text.strip()[:20]}</li>"
                 for i, text in enumerate(sentences(real[:600]))]
        lines += self.lines("code")[:max(4, len(lines))]
        return "\n".join(self.sample(lines, len(lines)))

    def ocr(self, real: str) -> str:
        alike = str.maketrans("一ニロカタエトハ日目人大ー二口力夕", "ー二口力夕工卜八曰且入犬一ニロカタ")
        noise = lambda c: self.choice((c.translate(alike), "", self.choice(real), self.choice(SPECKS)))
        return "".join(noise(c) if c != "\n" and self.random() < 0.3 else c for c in real)

    def spliced(self, pool: list[list[str]]) -> str:
        drawn = ((self.choice(pool), self.randint(2, 6)) for _ in range(self.randint(50, 150)))
        return "".join("".join(words[(start := self.randrange(max(1, len(words) - size))):start + size])
                       for words, size in drawn)

    def random_strings(self, real: str) -> str:
        kanji, kana = range(0x4E00, 0x9F00), range(0x30A2, 0x30F4)
        scripts = self.choice(((kanji,), (kana,), (kanji, kana), ([*map(ord, real)],)))
        run = lambda: "".join(chr(self.choice(self.choice(scripts))) for _ in range(self.randint(2, 14)))
        return "".join(run() + self.choice("、。 \n") for _ in range(80))

    def foreign(self) -> str:
        english = [doc for module in (argparse, csv, gzip, json, random, re) for _, member in inspect.getmembers(module)
                   if len(doc := inspect.getdoc(member) or "") > 150 and doc.isascii()]
        latin = "\n".join(self.sample(english, 4))[:self.randint(300, 1500)]
        return "\n".join(self.lines("chinese")) if self.random() < 0.4 else latin

    def gloss(self) -> str:
        gap, order = self.choice(("", "", " ")), ("nouns", "glue", "verbs", "adjectives", "nouns", "glue", "nouns")
        said = lambda: gap.join(self.choice(WORDS[kind]) for kind in order * self.randint(1, 2))
        return "".join(said() + self.choice(("。", "。\n", "、")) for _ in range(self.randint(12, 30)))

    def teaser(self, page: str) -> str:
        name, number = self.choice(WORDS["nav"]), self.randint
        date = f"20{number(10, 24)}/{number(1, 12):02}/{number(1, 28):02} - " * number(0, 1)
        start = f"{page[:12]} - {name}\n{date}" + page.replace("\n", " ")[:number(50, 110)]
        return start + self.choice(("...", "…", " ...", "…続きを読む"))


def junk(good: dict[str, list[str]], morphology: Morphology, count: int, seed: int) -> dict[str, list[str]]:
    """`count` documents a kind; document i depends on the seed, its kind, i and the real texts."""
    leads, pages = good["leads"], good["CRADE"] + good["Wikipedia"] + good["Aozora"][::4]
    split, real = morphology.split, lambda w: w.excerpt(pages)
    shuffled = lambda w, units: "".join(w.sample(units[:-1], len(units) - 1)) + units[-1]
    kinds = {
        "adult": Writer.adult, "adult, half real": lambda w: w.adult_half(real(w)),
        "advertisement": lambda w: w.forms("ads", 2, 1200), "gambling": lambda w: w.forms("gambling", 1, 700),
        "boilerplate": lambda w: w.boilerplate(w.choice(leads)), "repeated": lambda w: w.repeated(real(w)),
        "characters shuffled": lambda w: "\n".join(shuffled(w, s.rstrip("\n")) for s in sentences(real(w))),
        "words shuffled": lambda w: "".join(shuffled(w, split(s)) for s in sentences(real(w))),
        "morphemes dropped": lambda w: "".join(m for m in split(real(w)) if "\n" in m or w.random() < 0.5),
        "mojibake, cp932": lambda w: real(w).encode().decode("cp932", w.choice(("replace", "ignore"))),
        "mojibake, latin-1": lambda w: real(w).encode().decode(w.choice(("latin-1", "cp1252")), "ignore"),
        "html": lambda w: w.html(real(w)), "ocr": lambda w: w.ocr(real(w)),
        "spliced": lambda w: w.spliced([split(real(w)[:300]) for _ in range(12)]),
        "random strings": lambda w: w.random_strings(real(w)), "foreign": Writer.foreign, "gloss": Writer.gloss,
        "snippets": lambda w: "\n".join(map(w.teaser, [w.choice(leads) if w.random() < 0.5 else real(w)
                                                       for _ in range(w.randint(8, 15))])),
        "table": lambda w: "\n".join(map(w.fill, [w.choice(PHRASES["table"])] * w.randint(20, 50)))}
    return {kind: [normalize(make(Writer(f"{seed}-{kind}-{i}"))) for i in range(count)] for kind, make in kinds.items()}


def read(shared: Path) -> dict[str, list[str]]:
    """The real texts of each set, normalised, each no longer than 20,000 characters."""
    items = [json.loads(line) for path in sorted(shared.glob("IgakuQA/data/20*/*[A-F].jsonl"))
             for line in path.read_text(encoding="utf-8").splitlines()]
    lines = (shared / "JMED-LLM/datasets/all/CRADE.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    reports = dict.fromkeys(row["question"].partition("\n")[2].strip() for row in csv.DictReader(lines))
    texts = {"IgakuQA": ["\n".join([item["problem_text"], *item["choices"]]) for item in items],
             "CRADE": [text.removeprefix("「").removesuffix("」").strip() for text in reports]}
    for name, stem in (("Wikipedia", "jaquad_wikipedia"), ("leads", "wikipedia_leads"), ("Aozora", "aozora_modern")):
        with gzip.open(shared / f"text/{stem}.jsonl.gz", "rt", encoding="utf-8") as file:
            texts[name] = [json.loads(line)["text"][:20_000] for line in file]
    return {name: [normalize(text) for text in some] for name, some in texts.items()}


def table(title: str, columns, rows) -> None:
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|---{'|--:' * (len(columns) - 1)}|")
    print("\n".join(f"| {' | '.join(map(str, row))} |" for row in rows), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    for name, default in (("documents", 150), ("seed", 0), ("show", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    flags = parser.parse_args()
    morphology, good = Morphology(), read(flags.shared)
    language = BigramPMI.learn((normalize(d["text"]) for d in sample.documents(0.6, 0)), morphology)
    rules = {rule.__name__: rule for rule in (*filters.CHEAP, *filters.MORPHEMIC)}
    rules["grammar"] = lambda page, profile: filters.grammar(page, profile, language)
    planted = junk(good, morphology, flags.documents, flags.seed)

    def judge(texts, profiles):
        found = [[{name: reason for name, rule in rules.items() if (reason := rule(page, filters.PROFILES[profile]))}
                  for profile in profiles] for page in (SegmentedText(text, morphology) for text in texts)]
        return zip(profiles, zip(*found))

    judged = ("web", "clinical")  # profiles of the junk; below, each text's {rule: reason} by set or kind and profile
    kept = {(name, p): found for name, some in good.items() for p, found in judge(some, (HOME[name], "web"))}
    caught = {(kind, p): found for kind, some in planted.items() for p, found in judge(some, judged)}
    total = {p: [*chain(*(caught[kind, p] for kind in planted))] for p in judged}
    share = lambda hits: f"{100 * sum(map(bool, hits)) / len(hits):.1f}"
    each = lambda some, rule: share([rule in found for found in some])
    both = lambda some, rule: f"{each(some, rule)} ({share([set(found) == {rule} for found in some])})"
    table("Good text wrongly dropped, and junk caught (only by this rule), %",
          ["rule", *(f"{name} {len(good[name]):,}, {p}" for name, p in kept), *(f"junk, {p}" for p in judged)],
          [[rule, *(each(some, rule) for some in kept.values()), *(both(some, rule) for some in total.values())]
           for rule in rules] + [["any", *map(share, kept.values()), *map(share, total.values())]])

    made = {name: getattr(hojichar, name)() for name in HOJICHAR}
    theirs = {kind: [{name for name in made if made[name].apply(Document(text)).is_rejected} for text in texts]
              for kind, texts in (good | planted).items() if kind in ("IgakuQA", "CRADE", *planted)}
    columns = {name: theirs[name] for name in ("IgakuQA", "CRADE")} | {"junk": [*chain(*map(theirs.get, planted))]}
    table("hojichar's filters with their default arguments, % dropped", ["filter", *columns],
          [[name, *(each(some, name) for some in columns.values())] for name in HOJICHAR] +
          [["the first seven", *(share([found & {*HOJICHAR[:7]} for found in some]) for some in columns.values())],
           ["any", *map(share, columns.values())]])

    long = lambda some: share([set(found.items()) - {("language", "short")} for found in some])
    table(f"Junk caught by any rule, % of {flags.documents} documents a kind",
          ["kind", *judged, "web, not for length alone", "hojichar, any"],
          [[kind, *(share(caught[kind, p]) for p in judged), long(caught[kind, "web"]), share(theirs[kind])]
           for kind in planted] + [["all", *map(share, total.values()), long(total["web"]), share(columns["junk"])]])
    for profile in judged:
        table(f"Junk caught by each rule (only by it), `{profile}`, %", ["kind", *rules],
              [[kind, *(both(caught[kind, profile], rule) for rule in rules)] for kind in planted])
    for (name, p), results in (kept | caught).items() if flags.show else ():
        lines = [f"- {text[:60]} {found or ''}".replace("\n", "/")
                 for text, found in zip((good | planted)[name], results) if bool(found) == (name in good)]
        print(f"\n{name}, {p}: {len(lines)} {'dropped' if name in good else 'missed'}\n", *lines[:flags.show], sep="\n")


if __name__ == "__main__":
    main()
